"""What each code holds that it should not: the person in the expression code, pose and expression in the identity's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fcvideo.evaluation.probes import Solver, probe_angles_seeds, probe_classes_seeds
from fcvideo.evaluation.verification import verify

SHOULD_HOLD = {"identity": "identity", "pose": "expression", "expression": "expression"}  # property: code
NOTHING = "nothing"  # what is read without any code: the floor of every table

Metrics = dict[str, float]


@dataclass(frozen=True)
class Split:
    """Features by name, each float32 (N, D), and labels (N,) int64 or angles (N, 3) in degrees, to train and to test.

    Rows of one of the `groups` (N,) of the training part stay together when the solver validates.
    """

    train_x: Mapping[str, np.ndarray]
    train_y: np.ndarray
    test_x: Mapping[str, np.ndarray]
    test_y: np.ndarray
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Pairs:
    """Features by name, each (N, D), and pairs of their rows, as `verification.verify` takes them."""

    x: Mapping[str, np.ndarray]
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    folds: np.ndarray


def measure_leakage(
    *,
    identity: Pairs | None = None,
    pose: Split | None = None,
    expression: Split | None = None,
    solver: Solver = "lbfgs",
    seeds: Sequence[int] = (0,),
) -> dict[str, dict[str, Metrics]]:
    """By property of the face, by feature (and NOTHING): how well the one is read from the other.

    What is not given is left out. Means over the seeds. Errors: InputError, see `verify` and the probes.
    """
    found: dict[str, dict[str, Metrics]] = {}
    if identity is not None:
        found["identity"] = _read_identity(identity)
    if pose is not None:
        found["pose"] = _read_pose(pose, solver, seeds)
    if expression is not None:
        found["expression"] = _read_expression(expression, solver, seeds)
    return found


def _read_identity(pairs: Pairs) -> dict[str, Metrics]:
    found = {}
    for name, x in pairs.x.items():
        result = verify(x, pairs.first, pairs.second, pairs.same, pairs.folds)
        found[name] = {"accuracy_percent": result.accuracy_percent, "roc_auc": result.roc_auc}
    share = float(np.mean(pairs.same))
    return found | {NOTHING: {"accuracy_percent": 100 * max(share, 1 - share), "roc_auc": 0.5}}


def _read_pose(split: Split, solver: Solver, seeds: Sequence[int]) -> dict[str, Metrics]:
    found = {}
    for name, x in split.train_x.items():
        results = probe_angles_seeds(x, split.train_y, split.test_x[name], split.test_y, solver, seeds, split.groups)
        found[name] = _angles(np.mean([result.mae_deg for result in results], axis=0))
    mean_pose = np.abs(split.test_y - split.train_y.mean(axis=0)).mean(axis=0)
    return found | {NOTHING: _angles(mean_pose)}


def _read_expression(split: Split, solver: Solver, seeds: Sequence[int]) -> dict[str, Metrics]:
    found = {}
    counts = np.bincount(split.train_y, minlength=int(split.test_y.max()) + 1)
    for name, x in split.train_x.items():
        results = probe_classes_seeds(
            x, split.train_y, split.test_x[name], split.test_y, len(counts), solver, seeds, split.groups
        )
        found[name] = {"accuracy_percent": float(np.mean([result.accuracy_percent for result in results]))}
    commonest = float(100 * np.mean(split.test_y == counts.argmax()))
    return found | {NOTHING: {"accuracy_percent": commonest}}


def _angles(mae_deg: np.ndarray) -> Metrics:
    return {f"{angle}_mae_deg": float(mae) for angle, mae in zip(("yaw", "pitch", "roll"), mae_deg, strict=True)}
