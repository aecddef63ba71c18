"""Finished parts become the rows of a table: tracks are assigned per video, row groups are evened out.

Streams: besides one row group, memory holds the boxes and compact codes of one video's faces (about 0.3 KB a face).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fcvideo.atomic import written_atomically
from fcvideo.faces.track import assign_tracks
from fcvideo.tables.schema import DICTIONARY_COLUMNS, SIGNATURE_COLUMN, with_metadata
from fcvideo.video.shots import CutFinder

ROWS_PER_GROUP = 25_000
ROWS_PER_READ = 4_096
TRACKING_COLUMNS = ["frame_index", "pts_seconds", "face_index", "x", "y", "w", "h", "identity"]


def track_faces(parts: Sequence[Path]) -> np.ndarray:
    """Track of every face of one video, (N,) int32, in the order of its rows."""
    frames, times, boxes, codes = [], [], [], []
    for rows in read_rows(parts, TRACKING_COLUMNS):
        faces = rows.filter(rows["face_index"].is_valid())
        frames.append(faces["frame_index"].to_numpy())
        times.append(faces["pts_seconds"].to_numpy())
        boxes.append(np.stack([faces[name].to_numpy() for name in "xywh"], axis=1))
        codes.append(_compact(faces["identity"]))
    if not sum(map(len, frames)):
        return np.empty(0, np.int32)
    return assign_tracks(*(np.concatenate(values) for values in (frames, times, boxes, codes)))


def find_cuts(parts: Sequence[Path]) -> np.ndarray:
    """`frame_index` (C,) int64 of the first frames of one video's shots, but for the video's own first."""
    finder, frames = CutFinder(), [np.empty(0, np.int64)]
    for rows in read_rows(parts, ["frame_index", SIGNATURE_COLUMN]):
        known = rows.filter(rows[SIGNATURE_COLUMN].is_valid())
        frames.append(known["frame_index"].to_numpy())
        signatures = np.frombuffer(b"".join(known[SIGNATURE_COLUMN].to_pylist()), np.uint8)
        finder.add(signatures.reshape(len(known), known.schema.field(SIGNATURE_COLUMN).type.byte_width))
    return np.concatenate(frames)[finder.cuts()]


def _compact(codes: pa.ChunkedArray) -> np.ndarray:
    """Codes in a quarter of their size, (N, D) int8: they lie in -1..1 and are compared by angle."""
    values = codes.combine_chunks().flatten().to_numpy()
    rounded = np.clip(np.rint(values * 127), -127, 127).astype(np.int8)
    return rounded.reshape(len(codes), codes.type.list_size)


def tracked_rows(parts: Sequence[Path], tracks: np.ndarray) -> Iterator[pa.Table]:
    """All rows of one video's parts, with `track_id` filled in."""
    position = 0
    for rows in read_rows(parts):
        has_face = rows["face_index"].is_valid().to_numpy()
        num_faces = int(has_face.sum())
        ids = np.zeros(rows.num_rows, np.int32)
        ids[has_face] = tracks[position : position + num_faces]
        position += num_faces
        rows = rows.select([name for name in rows.column_names if name != SIGNATURE_COLUMN])
        column = rows.schema.get_field_index("track_id")
        yield rows.set_column(column, rows.schema.field(column), pa.array(ids, mask=~has_face))


def read_rows(parts: Iterable[Path], columns: list[str] | None = None) -> Iterator[pa.Table]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(ROWS_PER_READ, columns=columns):
                yield pa.Table.from_batches([batch])


def write_table(path: Path, schema: pa.Schema, tables: Iterable[pa.Table], metadata: dict[str, Any]) -> int:
    """One Parquet file of all rows, atomically, in even row groups; gives the number of rows."""
    schema = with_metadata(schema, metadata)
    waiting: list[pa.Table] = []
    num_waiting = num_rows = 0
    with (
        written_atomically(path) as unfinished,
        pq.ParquetWriter(unfinished, schema, compression="zstd", use_dictionary=DICTIONARY_COLUMNS) as writer,
    ):
        for table in tables:
            waiting.append(table.replace_schema_metadata(schema.metadata))
            num_waiting += table.num_rows
            num_rows += table.num_rows
            if num_waiting >= ROWS_PER_GROUP:
                joined = pa.concat_tables(waiting)
                num_whole = num_waiting // ROWS_PER_GROUP * ROWS_PER_GROUP
                writer.write_table(joined.slice(0, num_whole), row_group_size=ROWS_PER_GROUP)
                waiting, num_waiting = [joined.slice(num_whole)], num_waiting - num_whole
        if num_waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
    return num_rows
