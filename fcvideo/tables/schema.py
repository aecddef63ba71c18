"""The two tables of `embed`: a row per face per sampled frame, and a row per input video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fcvideo.text import public_text

METADATA_KEY = b"fcvideo"
DICTIONARY_COLUMNS = ["video", "video_id", "status"]
SIGNATURE_COLUMN = "signature"  # of parts alone: what tells where shots begin


def embeddings_schema(code_dim: int = 256) -> pa.Schema:
    """Landmarks are x0, y0 .. x4, y4; crop is the 2 x 3 affine from picture to crop, row by row."""
    code = pa.list_(pa.float32(), code_dim)
    return pa.schema(
        [
            pa.field("video", pa.string(), nullable=False),
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("frame_index", pa.int64(), nullable=False),
            pa.field("pts_seconds", pa.float64()),
            pa.field("status", pa.string(), nullable=False),
            pa.field("face_index", pa.int32()),
            pa.field("track_id", pa.int32()),
            pa.field("x", pa.float32()),
            pa.field("y", pa.float32()),
            pa.field("w", pa.float32()),
            pa.field("h", pa.float32()),
            pa.field("score", pa.float32()),
            pa.field("landmarks", pa.list_(pa.float32(), 10)),
            pa.field("crop", pa.list_(pa.float32(), 6)),
            pa.field("expression", code),
            pa.field("identity", code),
            pa.field("cycle_error", pa.float32()),
        ]
    )


def videos_schema() -> pa.Schema:
    """`num_frames_decoded` counts those of the sampled frames that gave a picture."""
    return pa.schema(
        [
            pa.field("video", pa.string(), nullable=False),
            pa.field("video_id", pa.string()),
            pa.field("container", pa.string()),
            pa.field("codec", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("rotation_deg", pa.int32()),
            pa.field("average_rate", pa.float64()),
            pa.field("start_seconds", pa.float64()),
            pa.field("duration_seconds", pa.float64()),
            pa.field("size_bytes", pa.int64()),
            pa.field("modified_seconds", pa.float64()),
            pa.field("content_hash", pa.string()),
            pa.field("num_frames_decoded", pa.int64(), nullable=False),
            pa.field("num_frames_sampled", pa.int64(), nullable=False),
            pa.field("num_faces", pa.int64(), nullable=False),
            pa.field("num_tracks", pa.int64(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("seconds_spent", pa.float64(), nullable=False),
        ]
    )


@dataclass(frozen=True)
class FaceColumns:
    """N faces of F frames, in order of frame; `frame` holds each face's position in the frames, 0..F-1."""

    frame: np.ndarray  # (N,) int64
    boxes: np.ndarray  # (N, 4) float32, x y w h in pixels of the upright picture
    scores: np.ndarray  # (N,) float32
    landmarks: np.ndarray  # (N, 5, 2) float32
    affines: np.ndarray  # (N, 2, 3), picture to crop
    expression: np.ndarray  # (N, D) float32
    identity: np.ndarray  # (N, D) float32
    cycle_error: np.ndarray | None  # (N,) float32


def embeddings_table(
    video: str,
    video_id: str,
    frame_index: np.ndarray,
    pts_seconds: np.ndarray,
    is_decoded: np.ndarray,
    faces: FaceColumns,
) -> pa.Table:
    """Rows for every one of F frames: one a face, or one with null face. `track_id` is null as yet."""
    num_frames, code_dim = len(frame_index), faces.expression.shape[1]
    faces_per_frame = np.bincount(faces.frame, minlength=num_frames)
    rows_per_frame = np.maximum(faces_per_frame, 1)
    frame_of_row = np.repeat(np.arange(num_frames), rows_per_frame)
    has_face = faces_per_frame[frame_of_row] > 0
    first_row = np.cumsum(rows_per_frame) - rows_per_frame
    face_index = np.arange(len(frame_of_row)) - first_row[frame_of_row]
    status = np.where(has_face, "ok", np.where(is_decoded[frame_of_row], "no_face", "decode_error"))
    num_rows = len(frame_of_row)

    def scalar(values: np.ndarray, kind: pa.DataType) -> pa.Array:
        spread = np.zeros(num_rows, values.dtype)
        spread[has_face] = values
        return pa.array(spread, kind, mask=~has_face)

    def vector(values: np.ndarray) -> pa.Array:
        flat = values.reshape(len(values), int(np.prod(values.shape[1:]))).astype(np.float32)
        spread = np.zeros((num_rows, flat.shape[1]), np.float32)
        spread[has_face] = flat
        return pa.FixedSizeListArray.from_arrays(pa.array(spread.ravel()), flat.shape[1], mask=pa.array(~has_face))

    cycle_error = pa.nulls(num_rows, pa.float32())
    if faces.cycle_error is not None:
        cycle_error = scalar(faces.cycle_error.astype(np.float32), pa.float32())
    pts = pts_seconds[frame_of_row]
    columns = [
        pa.array([video] * num_rows, pa.string()),
        pa.array([video_id] * num_rows, pa.string()),
        pa.array(frame_index[frame_of_row], pa.int64()),
        pa.array(pts, pa.float64(), mask=np.isnan(pts)),
        pa.array(status.tolist(), pa.string()),
        scalar(face_index[has_face], pa.int32()),
        pa.nulls(num_rows, pa.int32()),
        *(scalar(faces.boxes[:, axis], pa.float32()) for axis in range(4)),
        scalar(faces.scores, pa.float32()),
        vector(faces.landmarks),
        vector(faces.affines),
        vector(faces.expression),
        vector(faces.identity),
        cycle_error,
    ]
    return pa.Table.from_arrays(columns, schema=embeddings_schema(code_dim))


def with_signatures(rows: pa.Table, signatures: np.ndarray) -> pa.Table:
    """A part's rows, each frame's first one with its signature, uint8 (F, B); null for a frame without a picture."""
    is_first = np.diff(rows["frame_index"].to_numpy(), prepend=-1) != 0
    is_known = is_first & np.array([status != "decode_error" for status in rows["status"].to_pylist()], bool)
    spread = np.zeros((rows.num_rows, signatures.shape[1]), np.uint8)
    spread[is_first] = signatures
    values = [row.tobytes() if known else None for row, known in zip(spread, is_known.tolist(), strict=True)]
    return rows.append_column(SIGNATURE_COLUMN, pa.array(values, pa.binary(signatures.shape[1])))


def videos_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Text is written as `public_text` has it."""
    plain = [{k: public_text(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    return pa.Table.from_pylist(plain, schema=videos_schema())


def with_metadata(schema: pa.Schema, metadata: dict[str, Any]) -> pa.Schema:
    return schema.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def metadata_of(schema: pa.Schema) -> dict[str, Any] | None:
    """What `with_metadata` stored; None for a file that fcvideo did not write."""
    stored = (schema.metadata or {}).get(METADATA_KEY)
    return None if stored is None else json.loads(stored)
