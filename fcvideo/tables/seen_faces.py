"""The faces of one video out of its rows: of finished parts, or of a table that `embed` wrote.

Streams: boxes and times stay in memory (about 50 bytes a row), codes are handed on as they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fcvideo.errors import InputError
from fcvideo.tables.columns import vectors
from fcvideo.tables.schema import embeddings_schema

COLUMNS = ["frame_index", "pts_seconds", "status", "face_index", "track_id", "x", "y", "w", "h", "score"]

Rows = Callable[[list[str]], Iterable[pa.Table]]  # reads these columns of a video's rows, from the first one on


@dataclass(frozen=True)
class SeenFaces:
    """F frames in order, and the N faces on them, in order of frame."""

    frame_index: np.ndarray  # (F,) int64
    pts_seconds: np.ndarray  # (F,) float64
    is_decoded: np.ndarray  # (F,) bool
    face_frame: np.ndarray  # (N,) int64: position in the frames
    boxes: np.ndarray  # (N, 4) float64
    scores: np.ndarray  # (N,) float32
    track_ids: np.ndarray  # (N,) int32


def check_columns(schema: pa.Schema, code_dim: int, where: str) -> None:
    """Errors: InputError for a column of embed's that is read here and is missing, or has another type."""
    for name in ("video", *COLUMNS, "expression"):
        if name not in schema.names:
            raise InputError(f"{where}: no column {name}, expected all of embed's; embed the videos anew")
        found, expected = schema.field(name).type, embeddings_schema(code_dim).field(name).type
        if not found.equals(expected):
            raise InputError(f"{where}: column {name}: found {found}, expected {expected}; embed the videos anew")


def check_rows(rows: Iterable[pa.Table], video: str, where: str) -> None:
    """Whether rows whose columns are right (`check_columns`) tell of `video`'s faces what can be shown.

    Errors: InputError, which names the first row that does not.
    """
    start = 0
    for table in rows:
        has_face, has_time = (table[name].is_valid().to_numpy() for name in ("face_index", "pts_seconds"))
        numbers = {name: table[name].to_numpy() for name in ("pts_seconds", "score", *"xywh")}
        faults = {
            "no number of the frame": table["frame_index"].is_null().to_numpy(),
            "another video's row among its own": pc.not_equal(table["video"], video).to_numpy(),
            "a time that is not finite": has_time & ~np.isfinite(numbers["pts_seconds"]),
            "a face without a track": has_face & table["track_id"].is_null().to_numpy(),
            "a score that is not finite": has_face & ~np.isfinite(numbers["score"]),
            "a box that is not finite": has_face & ~np.all([np.isfinite(numbers[name]) for name in "xywh"], axis=0),
            "a box without width or height": has_face & ~((numbers["w"] > 0) & (numbers["h"] > 0)),
            "a face without a code": has_face & table["expression"].is_null().to_numpy(),
            "a code that is not finite": has_face & ~np.isfinite(vectors(table["expression"])).all(axis=1),
        }
        for fault, is_there in faults.items():
            if is_there.any():
                row = start + int(np.argmax(is_there))
                raise InputError(f"{where}, row {row}: found {fault}, expected a row of embed's; embed it anew")
        start += len(table)


def read_seen_faces(rows: Rows, track_ids: np.ndarray | None = None) -> SeenFaces:
    """`track_ids` (N,) stand for those of rows that have none yet."""
    frame_index, times, is_decoded, face_frame, boxes, scores, tracks = ([np.empty(0)] for _ in range(7))
    num_frames, last_index = 0, -1
    for table in rows(COLUMNS):
        index = table["frame_index"].to_numpy()
        is_first = np.diff(index, prepend=last_index) != 0
        position = num_frames - 1 + np.cumsum(is_first)
        has_face = table["face_index"].is_valid().to_numpy()
        frame_index.append(index[is_first])
        times.append(table["pts_seconds"].to_numpy()[is_first])
        is_decoded.append(np.array([status != "decode_error" for status in table["status"].to_pylist()])[is_first])
        face_frame.append(position[has_face])
        faces = table.filter(table["face_index"].is_valid())
        boxes.append(np.stack([faces[name].to_numpy() for name in "xywh"], axis=1).astype(np.float64))
        scores.append(faces["score"].to_numpy())
        if track_ids is None:
            tracks.append(faces["track_id"].to_numpy())
        if len(index):
            num_frames, last_index = num_frames + int(is_first.sum()), int(index[-1])
    boxes[0] = np.empty((0, 4))
    return SeenFaces(
        np.concatenate(frame_index).astype(np.int64),
        np.concatenate(times),
        np.concatenate(is_decoded).astype(bool),
        np.concatenate(face_frame).astype(np.int64),
        np.concatenate(boxes),
        np.concatenate(scores).astype(np.float32),
        np.concatenate(tracks).astype(np.int32) if track_ids is None else track_ids,
    )


def read_expressions(rows: Rows, chosen: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The expression codes of the faces `chosen` (M,), ascending positions among the N: (first of M, (m, D))."""
    start = 0
    for table in rows(["face_index", "expression"]):
        faces = table.filter(table["face_index"].is_valid())["expression"].combine_chunks()
        first, last = np.searchsorted(chosen, [start, start + len(faces)])
        if first < last:
            codes = faces.flatten().to_numpy().reshape(len(faces), -1)
            yield int(first), codes[chosen[first:last] - start]
        start += len(faces)
