import numpy as np
import pytest

from fcvideo.evaluation.leakage import NOTHING, Pairs, Split, measure_leakage


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def noise(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.normal(size=(rows, 8)).astype(np.float32)


def test_expression_is_read_from_the_code_that_holds_it_alone(rng: np.random.Generator) -> None:
    labels = rng.choice(3, 600, p=[0.5, 0.25, 0.25])
    holds = noise(rng, 600) * 0.05 + np.eye(3, 8, dtype=np.float32)[labels]
    x = {"expression": holds, "identity": noise(rng, 600)}
    split = Split({n: v[:400] for n, v in x.items()}, labels[:400], {n: v[400:] for n, v in x.items()}, labels[400:])
    found = measure_leakage(expression=split)["expression"]
    floor = found[NOTHING]["accuracy_percent"]
    assert floor == 100 * np.mean(labels[400:] == 0)
    assert found["expression"]["accuracy_percent"] == 100
    assert found["identity"]["accuracy_percent"] < floor + 5


def test_pose_is_read_from_the_code_that_holds_it_alone(rng: np.random.Generator) -> None:
    angles = rng.normal(size=(400, 3)) * [20, 8, 6]
    holds = (angles @ rng.normal(size=(3, 8))).astype(np.float32)
    x = {"expression": holds, "identity": noise(rng, 400)}
    split = Split({n: v[:300] for n, v in x.items()}, angles[:300], {n: v[300:] for n, v in x.items()}, angles[300:])
    found = measure_leakage(pose=split, seeds=(0, 1))["pose"]
    floor = np.abs(angles[300:] - angles[:300].mean(axis=0)).mean(axis=0)
    assert list(found[NOTHING].values()) == pytest.approx(floor)
    assert found["expression"]["yaw_mae_deg"] < 0.2
    assert found["identity"]["yaw_mae_deg"] > 0.9 * found[NOTHING]["yaw_mae_deg"]


def test_the_person_is_read_from_the_code_that_holds_it_alone(rng: np.random.Generator) -> None:
    person = np.repeat(np.arange(50), 2)
    holds = rng.normal(size=(50, 8))[person] + 0.05 * noise(rng, 100)
    first = np.tile(np.arange(0, 100, 2), 2)
    second = np.concatenate([np.arange(1, 100, 2), np.roll(np.arange(1, 100, 2), 9)])
    pairs = Pairs(
        {"expression": noise(rng, 100), "identity": holds}, first, second, np.arange(100) < 50, np.arange(100) % 10
    )
    found = measure_leakage(identity=pairs)
    assert list(found) == ["identity"]
    assert found["identity"]["identity"]["roc_auc"] > 0.99
    assert 0.35 < found["identity"]["expression"]["roc_auc"] < 0.65
    assert found["identity"][NOTHING] == {"accuracy_percent": 50, "roc_auc": 0.5}


def test_without_data_nothing_is_measured() -> None:
    assert measure_leakage() == {}
