"""`evaluate` as a command, on pictures whose label is plain to see; tests/evaluation has the numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image

from fcvideo.config import EvaluateSettings
from fcvideo.errors import InputError, ResourceError, SettingsError
from fcvideo.jobs.evaluate import PROBED, evaluate
from fcvideo.running import devices
from fcvideo.settings import resolve
from tests.evaluation.datasets import jpeg, write_csv, write_parquet
from tests.tables.rows import face_rows


def run(model_folder: Path, out: Path, **flags: Any) -> dict[str, Any]:
    common: dict[str, Any] = {"out": str(out), "progress": "none"}
    if "embeddings" not in flags:
        common |= {"model": str(model_folder), "gpus": 0}
    if flags.get("task") in PROBED:
        common["seeds"] = 2
    return evaluate(
        resolve(EvaluateSettings, common | {k: str(v) if isinstance(v, Path) else v for k, v in flags.items()})
    )


@pytest.fixture(scope="module")
def bright_or_dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    values = [int(rng.integers(20, 90)) + 140 * (i % 2) for i in range(60)]
    columns = {"jpeg": [jpeg(v, 48) for v in values], "label": ["bright" if v > 120 else "dark" for v in values]}
    return write_parquet(tmp_path_factory.mktemp("sets") / "expression.parquet", columns)


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The yaw is the picture's grey."""
    rng = np.random.default_rng(0)
    values = [int(v) for v in rng.integers(20, 220, 60)]
    columns: dict[str, Any] = {"jpeg": [jpeg(v, 48) for v in values], "yaw_deg": [v / 4 - 30.0 for v in values]}
    columns |= {name: rng.normal(0, 5, 60).tolist() for name in ("pitch_deg", "roll_deg")}
    columns["yaw_deg"][7] = None
    return write_parquet(tmp_path_factory.mktemp("sets") / "poses.parquet", columns)


def test_expression(model: Path, bright_or_dark: Path, tmp_path: Path) -> None:
    features = "pixels,hog,expression"
    found = run(
        model, tmp_path, task="expression", train=bright_or_dark, test=bright_or_dark, features=features, report=True
    )
    assert found["task"] == "expression"
    assert list(found["features"]) == ["pixels", "hog", "expression"]
    assert found["features"]["pixels"]["accuracy_percent"] == 100
    assert found["nothing"]["accuracy_percent"] == 50
    assert found["classes"] == ["bright", "dark"]
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found
    written = {path.name for path in tmp_path.iterdir()}
    assert {"confusion-pixels.png", "confusion-hog.png", "neighbours.png", "report.html"} <= written
    run(model, tmp_path, task="expression", train=bright_or_dark, test=bright_or_dark, features="pixels")
    assert {path.name for path in tmp_path.iterdir()} == {"confusion-pixels.png", "evaluation.json"}


def test_pose(model: Path, poses: Path, tmp_path: Path) -> None:
    found = run(model, tmp_path, task="pose", train=poses, test=poses, features="pixels,lbp", mirror=False)
    assert found["num_train"] == found["num_test"] == 59
    assert found["num_skipped"] == 2
    pixels = found["features"]["pixels"]
    assert pixels["yaw_mae_deg"] < 1 < found["nothing"]["yaw_mae_deg"]
    assert {"pitch_mae_deg", "roll_mae_deg"} <= set(pixels)
    assert (tmp_path / "pose-pixels.png").is_file()


def test_mirror_images_teach_the_other_side(model: Path, tmp_path: Path) -> None:
    """The yaw is the place of a bright bar, which all training pictures have on the left."""

    def table(name: str, columns: range) -> Path:
        pictures = []
        for column in columns:
            pixels = np.zeros((48, 48), np.uint8)
            pixels[:, column : column + 4] = 255
            Image.fromarray(pixels).save(tmp_path / "face.png")
            pictures.append((tmp_path / "face.png").read_bytes())
        angles = {"yaw_deg": [float(c - 22) for c in columns], "pitch_deg": [0.0] * len(columns)}
        return write_parquet(tmp_path / name, {"jpeg": pictures} | angles | {"roll_deg": [0.0] * len(columns)})

    sides = {"train": table("left.parquet", range(0, 21)), "test": table("right.parquet", range(24, 45))}
    error = {
        mirror: run(model, tmp_path / "out", task="pose", features="pixels", mirror=mirror, **sides)["features"]
        for mirror in (True, False)
    }
    assert error[True]["pixels"]["yaw_mae_deg"] < 3 < error[False]["pixels"]["yaw_mae_deg"]


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_both_solvers(model: Path, bright_or_dark: Path, tmp_path: Path, solver: str) -> None:
    flags = {"train": bright_or_dark, "test": bright_or_dark, "features": "pixels", "solver": solver, "seeds": 1}
    found = run(model, tmp_path, task="expression", **flags)
    assert found["features"]["pixels"]["accuracy_percent"] > 90


def test_verification_of_a_table_and_its_pairs(model: Path, tmp_path: Path) -> None:
    """A person is a pattern, in four brightnesses."""
    rng = np.random.default_rng(0)
    names, pictures = [], []
    for person in range(6):
        pattern = rng.integers(0, 2, (6, 6)) * 100.0
        for number in range(4):
            small = (pattern + 30 * number).astype(np.uint8)
            Image.fromarray(small).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "face.png")
            names.append(f"{person}_{number}")
            pictures.append((tmp_path / "face.png").read_bytes())
    images = write_parquet(tmp_path / "images.parquet", {"name": names, "jpeg": pictures})
    rows = [(f"{i % 6}_{i % 4}", f"{(i + i % 2) % 6}_{(i + 1) % 4}", 1 - i % 2) for i in range(60)]
    pairs = write_csv(tmp_path / "pairs.csv", ("a", "b", "same"), rows)
    found = run(model, tmp_path / "out", task="verification", images=images, pairs=pairs, features="hog,identity")
    assert found["num_pairs"] == 60
    assert found["num_same"] == 30
    assert found["features"]["hog"]["accuracy_percent"] == 100
    assert found["features"]["hog"]["roc_auc"] == 1
    assert 0 <= found["features"]["identity"]["tar_at_far_1_percent"] <= 100
    assert {"roc.png", "neighbours.png", "faces.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_faces_are_found_in_whole_pictures(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    astronaut = skimage.data.astronaut()
    for person, picture in {"Ann": astronaut[:, :400], "Bob": np.full((200, 200, 3), 80, np.uint8)}.items():
        (tmp_path / "lfw" / person).mkdir(parents=True)
        for number in (1, 2):
            Image.fromarray(picture).save(tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg")
    (tmp_path / "pairs.txt").write_text("1\t2\nAnn\t1\t2\nBob\t1\t2\nAnn\t1\tBob\t1\nAnn\t2\tBob\t2\n")
    flags = {"task": "verification", "images": tmp_path / "lfw", "pairs": tmp_path / "pairs.txt", "features": "pixels"}
    found = run(model, tmp_path / "out", **flags, progress="plain")
    assert found["num_without_face"] == 2
    said = capsys.readouterr().err
    assert "searched for faces; --faces ready does otherwise" in said
    assert "no face found in 2 of 4 pictures (the first: Bob/Bob_0001.jpg)" in said
    assert "num_without_face" not in run(model, tmp_path / "out", **flags, faces="ready")


def test_identity_kept_reconstruction_and_leakage(model: Path, poses: Path, crops_file: Path, tmp_path: Path) -> None:
    kept = run(model, tmp_path / "kept", task="identity-kept", images=crops_file, limit=60)
    assert {"identity", "hog"} == set(kept["features"])
    assert {"accuracy_percent", "mean_cosine"} <= set(kept["features"]["identity"])
    rebuilt = run(model, tmp_path / "rebuilt", task="reconstruction", images=crops_file, limit=5, report=True)
    assert rebuilt["num_faces"] == 10
    assert rebuilt["reconstruction"]["own_neutral"]["l1"] > 0
    assert (tmp_path / "rebuilt" / "faces.png").is_file()
    leaks = run(model, tmp_path / "leaks", task="leakage", images=crops_file, train=poses, test=poses, report=True)
    assert set(leaks["leakage"]) == {"identity", "pose"}
    assert set(leaks["leakage"]["pose"]) == {"expression", "identity", "nothing"}


def test_a_table_of_embeddings_needs_no_pictures(tmp_path: Path) -> None:
    rows = pa.concat_tables([face_rows(f"{i}.mp4", [1, 1]) for i in range(20)])
    codes = np.repeat(np.eye(8, dtype=np.float32)[[i % 2 for i in range(20)]], 2, axis=0)
    codes += np.random.default_rng(0).normal(0, 0.05, codes.shape).astype(np.float32)
    for name in ("expression", "identity"):
        column = pa.FixedSizeListArray.from_arrays(pa.array(codes.ravel()), 8)
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    pq.write_table(rows, tmp_path / "e.parquet")
    header = ("video", "label", "person", "yaw_deg", "pitch_deg", "roll_deg")
    lines = [(f"{i}.mp4", "ab"[i % 2], "pq"[i % 2], 10 * (i % 2), 0, i) for i in range(20)]
    labels = write_csv(tmp_path / "labels.csv", header, lines)
    flags = {"embeddings": tmp_path / "e.parquet", "labels": labels}
    nowhere = tmp_path / "no model is needed"
    found = run(nowhere, tmp_path / "out", task="expression", **flags)
    assert found["features"]["expression"]["accuracy_percent"] == 100
    assert found["num_train"] + found["num_test"] == 40
    found = run(nowhere, tmp_path / "out", task="pose", features="identity", **flags)
    assert found["features"]["identity"]["yaw_mae_deg"] < 2
    found = run(nowhere, tmp_path / "out", task="verification", **flags)
    assert found["features"]["identity"]["accuracy_percent"] == 100
    assert set(run(nowhere, tmp_path / "out", task="leakage", **flags)["leakage"]) == {"identity", "pose", "expression"}


def test_with_json_stdout_holds_one_object(model: Path, bright_or_dark: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fcvideo", "evaluate", "--task", "expression", "--features", "expression,pixels"]
    command += ["--train", str(bright_or_dark), "--test", str(bright_or_dark), "--model", str(model), "--gpus", "0"]
    for flags, has_table in (["--json"], False), ([], True):
        ended = subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True, check=True)
        found = json.loads(ended.stdout)
        assert found["features"]["pixels"]["accuracy_percent"] == 100
        assert ("accuracy %" in ended.stderr) == has_table
    assert (tmp_path / "evaluation" / "expression" / "evaluation.json").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "--task: not given"),
        ({"task": "reading"}, "task: found 'reading', expected one of"),
        ({"task": "pose"}, "--train: not given; task pose needs it"),
        ({"task": "verification"}, "--images: not given"),
        ({"task": "leakage"}, "--images or --train: not given"),
        (
            {"task": "pose", "train": "a", "images": "b"},
            "--images: task pose has no use for it; expected it with verification, identity-kept, leakage, reconstr",
        ),
        (
            {"task": "verification", "images": "a", "seeds": 5},
            "--seeds: task verification has no use for it; expected it with expression, pose, leakage",
        ),
        ({"task": "verification", "images": "a", "solver": "sgd"}, "--solver: task verification has no use"),
        ({"task": "expression", "train": "a", "mirror": False}, "--mirror: task expression has no use"),
        ({"task": "reconstruction", "images": "a", "features": "hog"}, "--features: task reconstruction has no use"),
        ({"task": "reconstruction", "images": "a", "faces": "ready"}, "--faces: task reconstruction has no use"),
        (
            {"task": "pose", "embeddings": "a", "labels": "b", "batch_size": 9},
            "--batch-size: a table of embeddings has no use for it",
        ),
        ({"task": "pose", "embeddings": "a", "labels": "b", "model": "m"}, "--model: a table of embeddings has no use"),
        ({"task": "expression", "train": "SET", "moco": "m"}, "--moco: none of the features asked for reads it; moco"),
        ({"task": "pose", "embeddings": "a"}, "--labels: not given"),
        (
            {"task": "reconstruction", "embeddings": "a", "labels": "b"},
            "--embeddings: task reconstruction has no use for it; expected it with expression, pose, verif",
        ),
        ({"task": "pose", "embeddings": "a", "labels": "b", "train": "c"}, "--train: a table of embeddings has no use"),
        ({"task": "leakage", "train": "a", "pairs": "b"}, "--pairs: needs --images too"),
        ({"task": "expression", "train": "SET", "test": "SET", "features": "hog,sift"}, "features: found 'sift'"),
        ({"task": "expression", "train": "SET", "test": "SET", "features": ","}, "features: found ','"),
    ],
)
def test_wrong_use_is_named(
    model: Path, bright_or_dark: Path, tmp_path: Path, flags: dict[str, Any], message: str
) -> None:
    given = {key: bright_or_dark if value == "SET" else value for key, value in flags.items()}
    with pytest.raises(SettingsError, match=f"^{message}"):
        run(model, tmp_path / "out", **given)


def test_inputs_that_are_not_there_are_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        run(model, tmp_path / "out", task="expression", train=tmp_path / "nowhere", test=tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        run(model, tmp_path / "out", task="verification", images=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_missing_gpus_are_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    with pytest.raises(ResourceError, match="go on with --gpus 0"):
        run(model, tmp_path, task="pose", train="a", gpus=1)
