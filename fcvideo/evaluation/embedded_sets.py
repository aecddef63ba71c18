"""Labels for faces that are embedded already: a table that `embed` wrote, joined with a table of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcvideo.errors import InputError, SettingsError
from fcvideo.evaluation.listing import SPLITS, has_both_splits, rows_of_split
from fcvideo.tables.columns import Kind, column_names, read_columns

CODES = ("expression", "identity")
FACE_KEYS = ("frame_index", "pts_seconds", "track_id")  # each optional in the labels
TEST_SHARE = 0.3  # of the videos, where the labels name no splits


@dataclass(frozen=True)
class EmbeddedFaces:
    """Labelled faces in the table's order."""

    codes: Mapping[str, np.ndarray]  # by name, float32 (N, D)
    labels: Mapping[str, Any]  # columns of the table of labels, a value a face
    clips: np.ndarray  # (N,) of str: video and track
    videos: Sequence[str]
    splits: Sequence[str] | None
    num_unmatched: int  # rows of labels that fit no face


def read_embedded_faces(
    embeddings: Path, labels: Path, columns: Mapping[str, Kind], features: Sequence[str], limit: int | None = None
) -> EmbeddedFaces:
    """The faces that have a label, with `columns` of the labels; rows of labels where one is missing are skipped.

    Labels without track_id are those of the largest face of each frame; times count to a millisecond. `limit` draws
    as many faces, by a fixed seed. Errors: InputError, SettingsError for features that a table cannot have.
    """
    if unknown := [name for name in features if name not in CODES]:
        raise SettingsError(
            f"features: found {unknown[0]!r}, which no embeddings table holds; expected {', '.join(CODES)}"
        )
    keys = [name for name in FACE_KEYS if name in column_names(labels)]
    optional: dict[str, Kind] = {"split": "text"}
    read = read_columns(labels, {"video": "text", **columns}, optional | dict.fromkeys(keys, "number"))
    rows, matched = _join(embeddings, labels, keys, read, _complete(read, columns))
    if limit is not None and limit < len(rows):
        drawn = np.sort(np.random.default_rng(0).choice(len(rows), limit, replace=False))
        rows, matched = rows[drawn], matched[drawn]
    found = read_columns(
        embeddings, {"video": "text", **dict.fromkeys(features, "vector")}, {"track_id": "number"}, rows
    )
    tracks = found.get("track_id", np.zeros(len(rows)))
    clips = np.array([f"{video}#{track:.0f}" for video, track in zip(found["video"], tracks, strict=True)])
    values = {name: _pick(read[name], matched) for name in columns}
    splits = [read["split"][i] or "" for i in matched] if "split" in read else None
    num_unmatched = len(read["video"]) - len(np.unique(matched))
    return EmbeddedFaces({name: found[name] for name in features}, values, clips, found["video"], splits, num_unmatched)


def split_embedded(faces: EmbeddedFaces, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and test faces: as the labels say, else some videos are held out, by a fixed seed.

    Errors: InputError.
    """
    if faces.splits is not None:
        if not has_both_splits(faces.splits):
            raise InputError(f"{labels}: found splits {', '.join(sorted(set(faces.splits)))}; expected train and test")
        count = len(faces.splits)
        train, test = (rows_of_split(faces.splits, count, split, labels) for split in SPLITS)
        return train, test
    names = sorted(set(faces.videos))
    if len(names) < 2:
        raise InputError(f"{labels}: labels faces of one video only, and has no column split (train or test)")
    drawn = np.random.default_rng(0).permutation(len(names))[: max(1, round(TEST_SHARE * len(names)))]
    is_test = np.isin(faces.videos, [names[i] for i in drawn])
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _complete(read: Mapping[str, Any], columns: Mapping[str, Kind]) -> np.ndarray:
    """(N,) bool: rows of labels that have a value in each of `columns`."""
    complete = np.ones(len(read["video"]), bool)
    for name, kind in columns.items():
        complete &= (
            np.isfinite(read[name]) if kind == "number" else np.array([bool(value) for value in read[name]], bool)
        )
    return complete


def _pick(values: Any, rows: np.ndarray) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]


def _join(
    embeddings: Path, labels: Path, keys: Sequence[str], read: Mapping[str, Any], complete: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the embeddings that hold a labelled face, rising, and the row of its label for each."""
    index: dict[tuple[Any, ...], int] = {}
    for row in np.flatnonzero(complete).tolist():
        key = (read["video"][row], *(_key_value(name, read[name][row]) for name in keys))
        if key in index:
            raise InputError(f"{labels}: rows {index[key]} and {row} label the same face ({', '.join(map(str, key))})")
        index[key] = row
    required: dict[str, Kind] = {"video": "text", "face_index": "number", **dict.fromkeys(keys, "number")}
    table = read_columns(embeddings, required)
    rows, matched = [], []
    for row in np.flatnonzero(np.isfinite(table["face_index"])).tolist():
        if "track_id" not in keys and table["face_index"][row] != 0:
            continue
        key = (table["video"][row], *(_key_value(name, table[name][row]) for name in keys))
        at = next((index[near] for near in _near(key, keys) if near in index), None)
        if at is not None:
            rows.append(row)
            matched.append(at)
    if not rows:
        example, video = next(iter(index), ("no complete row",)), next(iter(table["video"]), "no row")
        raise InputError(f"{labels}: no label fits a face of {embeddings}; found {example[0]!r} there, {video!r} here")
    return np.array(rows), np.array(matched)


def _key_value(name: str, value: float) -> float:
    return round(value * 1000) if name == "pts_seconds" and np.isfinite(value) else value


def _near(key: tuple[Any, ...], keys: Sequence[str]) -> list[tuple[Any, ...]]:
    """The key, and those a millisecond off, for times rounded otherwise."""
    if "pts_seconds" not in keys:
        return [key]
    at = 1 + list(keys).index("pts_seconds")
    return [(*key[:at], key[at] + off, *key[at + 1 :]) for off in (0, -1, 1)]
