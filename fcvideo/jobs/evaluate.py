"""`fcvideo evaluate`: a task, its features side by side, a table, evaluation.json, figures, a page with all of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fcvideo import __version__
from fcvideo.atomic import make_folder, write_json
from fcvideo.clips.store import ClipStore
from fcvideo.config import EvaluateSettings, EvaluationTask
from fcvideo.errors import SettingsError
from fcvideo.evaluation.bench import Bench
from fcvideo.evaluation.embedded_sets import CODES
from fcvideo.evaluation.features import MODEL_FEATURES, Pictures
from fcvideo.evaluation.figures import draw_confusion, draw_faces, draw_neighbours, draw_pose, draw_roc, nearest
from fcvideo.evaluation.frechet import load_inception
from fcvideo.evaluation.identity_kept import measure_identity_kept
from fcvideo.evaluation.leakage import measure_leakage
from fcvideo.evaluation.pictures import FaceCrops
from fcvideo.evaluation.pose_sets import ANGLES, holds_angles
from fcvideo.evaluation.probes import probe_angles_seeds, probe_classes_seeds
from fcvideo.evaluation.reconstruction import ClipPictures, load_faces, measure_reconstruction, pair_up
from fcvideo.evaluation.report import NAME as REPORT
from fcvideo.evaluation.report import write_report
from fcvideo.evaluation.result_table import print_tables
from fcvideo.evaluation.verification import verify
from fcvideo.running.progress import Reporter
from fcvideo.tables.columns import column_names

Result = dict[str, Any]
PROBED: tuple[EvaluationTask, ...] = ("expression", "pose", "leakage")
PAIRED: tuple[EvaluationTask, ...] = ("verification", "identity-kept", "leakage")
COMPARED: tuple[EvaluationTask, ...] = ("expression", "pose", *PAIRED)
USED_BY: dict[str, tuple[EvaluationTask, ...]] = {  # settings that do not count for every task
    **dict.fromkeys(("train", "test", "solver", "seeds"), PROBED),
    "images": (*PAIRED, "reconstruction"),
    "pairs": PAIRED,
    **dict.fromkeys(("embeddings", "labels"), ("expression", "pose", "verification", "leakage")),
    **dict.fromkeys(("features", "moco", "imagenet_weights", "faces"), COMPARED),
    "mirror": ("pose", "leakage"),
}
OF_PICTURES = {  # which say nothing of a table of embeddings
    *("train", "test", "images", "pairs", "faces", "crop_factor", "mirror"),
    *("model", "moco", "imagenet_weights", "gpus", "batch_size"),
}
NEEDED = {"expression": "train", "pose": "train"}  # other tasks need images, leakage either
RESULT = "evaluation.json"
ANGLE_NAMES = ("yaw", "pitch", "roll")
NUM_QUERIES, NUM_NEIGHBOURS, NUM_SHEET_PAIRS = 6, 5, 4


def evaluate(settings: EvaluateSettings) -> Result:
    """The object that goes to stdout and into evaluation.json. Errors: FcvideoError."""
    _check(settings)
    started = time.monotonic()
    # Libraries that download weights print to stdout, which is for the result alone.
    with contextlib.redirect_stdout(sys.stderr), Reporter(settings.progress) as reporter:
        bench = Bench(settings, reporter)
        assert settings.task is not None
        with _folder(bench.out):
            _clear(bench.out)
            if settings.embeddings is None:
                bench.load()
            found = TASKS[settings.task](bench)
        result = _finite(
            {"task": settings.task}
            | found
            | bench.facts
            | _how(bench)
            | {"seconds": round(time.monotonic() - started, 1), "out": str(bench.out)}
            | {"figures": [path.name for path in bench.figures], "exit_code": 0}
        )
        write_json(bench.out / RESULT, result)
        shown = _for_people(result)
        if settings.report:
            write_report(bench.out, shown, bench.figures)
        if not settings.json:
            print_tables(shown)
        written = [RESULT, *result["figures"], *([REPORT] if settings.report else [])]
        reporter.say(f"written to {bench.out}: {', '.join(written)}")
    return result


def _check(settings: EvaluateSettings) -> None:
    """Refuses what is missing, and settings that would do nothing."""
    if settings.task is None:
        raise SettingsError(f"--task: not given; expected one of {', '.join(TASKS)}")
    _refuse_useless(settings, settings.task)
    if settings.embeddings or settings.labels:
        if not (settings.embeddings and settings.labels):
            missing = "--labels" if settings.embeddings else "--embeddings"
            raise SettingsError(f"{missing}: not given; an embeddings table and its labels are needed together")
        return
    needed = NEEDED.get(settings.task, "images")
    if settings.task == "leakage":
        if not settings.train and not settings.images:
            raise SettingsError("--images or --train: not given; leakage needs people, poses or expressions")
    elif not getattr(settings, needed):
        raise SettingsError(f"--{needed}: not given; task {settings.task} needs it")
    for name, other in (("test", "train"), ("pairs", "images")):
        if getattr(settings, name) and not getattr(settings, other):
            raise SettingsError(f"--{name}: needs --{other} too")


def _refuse_useless(settings: EvaluateSettings, task: EvaluationTask) -> None:
    """A setting at its default is as if not given."""
    for spec in dataclasses.fields(settings):
        if getattr(settings, spec.name) == spec.default:
            continue
        flag = "--" + spec.name.replace("_", "-")
        if task not in (tasks := USED_BY.get(spec.name, (task,))):
            raise SettingsError(f"{flag}: task {task} has no use for it; expected it with {', '.join(tasks)}")
        if settings.embeddings and spec.name in OF_PICTURES:
            raise SettingsError(f"{flag}: a table of embeddings has no use for it; expected it with pictures")


def _expression(bench: Bench) -> Result:
    data = bench.expression_data()
    split, classes = data.split, data.classes
    features, predictions = {}, {}
    for name in _each(bench, "probes"):
        train_x, test_x = split.train_x[name], split.test_x[name]
        results = probe_classes_seeds(
            train_x, split.train_y, test_x, split.test_y, len(classes), bench.settings.solver, bench.seeds, split.groups
        )
        predictions[name] = results[0].predictions
        accuracies = [result.accuracy_percent for result in results]
        features[name] = {
            "accuracy_percent": float(np.mean(accuracies)),
            "accuracy_percent_deviation": float(np.std(accuracies)),
            "strengths": [result.strength for result in results],
            "dimensions": train_x.shape[1],
        }
    commonest = np.bincount(split.train_y, minlength=len(classes)).argmax()
    for name, found in predictions.items():
        draw_confusion(bench.figure(f"confusion-{name}"), split.test_y, found, classes, name)
    _draw_neighbours(bench, data.faces, split.test_x, data.people)
    nothing = {"accuracy_percent": float(100 * np.mean(split.test_y == commonest))}
    return {"features": features, "nothing": nothing, "classes": list(classes)}


def _pose(bench: Bench) -> Result:
    data = bench.pose_data()
    split = data.split
    features = {}
    for name in _each(bench, "probes"):
        train_x, test_x = split.train_x[name], split.test_x[name]
        results = probe_angles_seeds(
            train_x, split.train_y, test_x, split.test_y, bench.settings.solver, bench.seeds, split.groups
        )
        errors = np.array([result.mae_deg for result in results])
        features[name] = _angles(errors.mean(axis=0), "mae_deg") | _angles(errors.std(axis=0), "mae_deg_deviation")
        features[name] |= {"strengths": [result.strengths for result in results], "dimensions": train_x.shape[1]}
        draw_pose(bench.figure(f"pose-{name}"), split.test_y, results[0].predictions, name)
    _draw_neighbours(bench, data.faces, split.test_x, data.people)
    mean_pose = np.abs(split.test_y - split.train_y.mean(axis=0)).mean(axis=0)
    return {"features": features, "nothing": _angles(mean_pose, "mae_deg")}


def _verification(bench: Bench) -> Result:
    data = bench.pair_data()
    pairs = data.pairs
    results = {name: verify(pairs.x[name], pairs.first, pairs.second, pairs.same, pairs.folds) for name in pairs.x}
    draw_roc(bench.figure("roc"), results)
    _draw_neighbours(bench, data.faces, pairs.x)
    if data.faces is not None and set(bench.feature_names) & set(MODEL_FEATURES):
        same = np.flatnonzero(pairs.same)
        _draw_sheet(bench, data.faces, np.stack([pairs.first[same], pairs.second[same]], axis=1))
    return {
        "features": {
            name: {
                "accuracy_percent": result.accuracy_percent,
                "accuracy_percent_deviation": result.deviation_percent,
                "roc_auc": result.roc_auc,
                "tar_at_far_1_percent": result.tar_at_far_1_percent,
                "threshold": result.threshold,
                "dimensions": pairs.x[name].shape[1],
            }
            for name, result in results.items()
        },
        "nothing": {"accuracy_percent": float(100 * max(pairs.same.mean(), 1 - pairs.same.mean())), "roc_auc": 0.5},
    }


def _identity_kept(bench: Bench) -> Result:
    pairs = bench.pair_set()
    faces = bench.crops(pairs.pictures)
    bench.reporter.begin("pictures", len(faces))
    results = measure_identity_kept(
        bench.model,
        pairs,
        bench.features,
        pictures=faces,
        device=bench.device,
        batch_size=bench.settings.batch_size,
        on_progress=lambda done: bench.reporter.update(done, pictures=done),
    )
    bench.reporter.end()
    same = np.flatnonzero(pairs.same)
    _draw_sheet(bench, faces, np.stack([pairs.first[same], pairs.second[same]], axis=1))
    return {"features": {name: result.summary() for name, result in results.items()}}


def _reconstruction(bench: Bench) -> Result:
    assert bench.settings.images is not None
    faces = ClipPictures(ClipStore(bench.settings.images), bench.framing, bench.settings.crop_factor)
    num_pairs = len(pair_up(faces.clips, bench.settings.limit))
    bench.reporter.begin("faces", 2 * num_pairs)
    found = measure_reconstruction(
        bench.model,
        faces,
        faces.clips,
        faces.people,
        device=bench.device,
        batch_size=bench.settings.batch_size,
        limit=bench.settings.limit,
        inception=load_inception(bench.device),
        on_progress=lambda done: bench.reporter.update(done, faces=done),
    )
    bench.reporter.end()
    _draw_sheet(bench, faces, pair_up(faces.clips, NUM_SHEET_PAIRS))
    return found.summary()


def _leakage(bench: Bench) -> Result:
    settings = bench.settings
    identity = pose = expression = None
    if settings.embeddings is not None:
        assert settings.labels is not None
        names = column_names(Path(settings.labels))
        has_people, has_pose, has_labels = "person" in names, set(ANGLES) <= set(names), "label" in names
    else:
        train = None if settings.train is None else Path(settings.train)
        has_people, has_pose = settings.images is not None, train is not None and holds_angles(train)
        has_labels = train is not None and (not has_pose or "label" in column_names(train))
    if has_people:
        identity = bench.pair_data().pairs
    if has_pose:
        pose = bench.pose_data().split
    if has_labels:
        expression = bench.expression_data().split
    solver, seeds = settings.solver, bench.seeds
    return {"leakage": measure_leakage(identity=identity, pose=pose, expression=expression, solver=solver, seeds=seeds)}


TASKS: dict[str, Callable[[Bench], Result]] = {
    "expression": _expression,
    "pose": _pose,
    "verification": _verification,
    "identity-kept": _identity_kept,
    "reconstruction": _reconstruction,
    "leakage": _leakage,
}


def _each(bench: Bench, phase: str) -> Iterator[str]:
    """The features' names, with progress."""
    bench.reporter.begin(phase, len(bench.feature_names))
    for done, name in enumerate(bench.feature_names):
        bench.reporter.update(done, feature=name)
        yield name
        bench.reporter.update(done + 1, feature=name)
    bench.reporter.end()


def _angles(values: np.ndarray, unit: str) -> dict[str, Any]:
    return {f"{angle}_{unit}": float(value) for angle, value in zip(ANGLE_NAMES, values, strict=True)}


def _draw_neighbours(
    bench: Bench, faces: FaceCrops | None, x: Mapping[str, np.ndarray], people: np.ndarray | None = None
) -> None:
    """By each code that is among the features, of some pictures drawn by a fixed seed.

    By expression among other people alone, where they are known: frames of one clip are alike in everything.
    """
    codes = [name for name in CODES if name in x]
    if faces is None or not codes or len(faces) < 2:
        return
    queries = np.random.default_rng(0).permutation(len(faces))[:NUM_QUERIES]
    others = {"expression": people}
    found = {name: nearest(x[name], queries, NUM_NEIGHBOURS, others.get(name)) for name in codes}
    draw_neighbours(bench.figure("neighbours"), faces, queries, found, people)


def _draw_sheet(bench: Bench, faces: Pictures, pairs: np.ndarray) -> None:
    """What the networks make of the first few of `pairs` (P, 2) of one person."""
    if len(pairs):
        some = pairs[np.linspace(0, len(pairs) - 1, min(NUM_SHEET_PAIRS, len(pairs))).round().astype(int)]
        images = load_faces(faces, some.T.ravel(), bench.model.config.image_side).to(bench.device)
        draw_faces(bench.figure("faces"), bench.model, images)


def _how(bench: Bench) -> Result:
    """How the numbers came about."""
    settings = bench.settings
    names = ("train", "test", "images", "pairs", "embeddings", "labels", "crop_factor", "limit")
    given = {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}
    probed = {"solver": settings.solver, "seeds": settings.seeds} if settings.task in PROBED else {}
    if settings.task == "pose" and settings.embeddings is None:
        probed["mirror"] = settings.mirror
    return {"model": settings.model if settings.embeddings is None else None, **probed, **given, "version": __version__}


def _for_people(result: Result) -> Result:
    """The floor as one more row of the features, and no lists in the rows."""
    shown = {key: value for key, value in result.items() if key not in ("nothing", "figures")}
    if "features" not in result:
        return shown
    rows = result["features"] | ({"nothing": result["nothing"]} if "nothing" in result else {})
    plain = {
        name: {key: value for key, value in row.items() if not isinstance(value, list)} for name, row in rows.items()
    }
    return shown | {"features": plain}


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Made before the work, so that a place that cannot be written is known then; not left empty after an error."""
    make_folder(out)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            out.rmdir()
        raise


def _clear(out: Path) -> None:
    """Removes what an earlier run wrote here: its figures would stand beside these as if they were this run's."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        names = json.loads((out / RESULT).read_text())["figures"]
        for name in (*names, REPORT, RESULT):
            (out / Path(name).name).unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    """For JSON, which knows neither NaN nor numpy."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
