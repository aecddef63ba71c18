"""Writes clips as Parquet shards, each under another name first, flushed and renamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fcvideo.atomic import written_atomically
from fcvideo.tables.schema import metadata_of, with_metadata

_FIELDS: list[pa.Field] = [
    pa.field("clip_id", pa.string()),
    pa.field("video", pa.string()),
    pa.field("person", pa.string()),
    pa.field("num_frames", pa.int32()),
    pa.field("frames", pa.list_(pa.binary())),
    pa.field("pts_seconds", pa.list_(pa.float64())),
    pa.field("frame_index", pa.list_(pa.int64())),
    pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4))),
]
CLIP_SCHEMA = pa.schema(_FIELDS)
VIDEOS_SUFFIX = ".videos.parquet"  # the record of inputs beside the shards; no clips in it
UNFINISHED = ".parts"  # stands in a folder of shards while prepare is at work there

SHARD_BYTES = 100 << 20
GROUP_CLIPS = 64
GROUP_BYTES = 16 << 20


@dataclass(frozen=True)
class Clip:
    """One face over time. Lists are as long as the clip."""

    clip_id: str
    video: str
    person: str | None
    frames: list[bytes]  # JPEG crops
    pts_seconds: list[float]
    frame_index: list[int]
    boxes: np.ndarray  # (frames, 4) float32: x, y, w, h in pixels of the upright picture

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.frames))


def write_clips(
    folder: Path, clips: Iterable[Clip], metadata: dict[str, Any], first_shard: int = 0, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Writes `clips` into shards of about `shard_bytes`; the same clips give the same shards."""
    stream = iter(clips)
    paths: list[Path] = []
    ahead = next(stream, None)
    while ahead is not None:
        path = folder / f"clips-{first_shard + len(paths):05d}.parquet"
        ahead = _fill_shard(path, ahead, stream, metadata, shard_bytes)
        paths.append(path)
    return paths


def write_shard(path: Path, clips: Iterable[Clip], metadata: dict[str, Any]) -> None:
    """Writes one file of any size, zero clips included; whole or not there."""
    with _open_shard(path, metadata) as shard:
        for clip in clips:
            shard.add(clip)


def read_clips(path: Path) -> Iterator[Clip]:
    """Clips of one shard in order, a row group in memory at a time."""
    with pq.ParquetFile(path) as parquet:
        for group in range(parquet.num_row_groups):
            for row in parquet.read_row_group(group).to_pylist():
                row.pop("num_frames")
                yield Clip(**row | {"boxes": np.array(row["boxes"], dtype=np.float32).reshape(-1, 4)})


def read_metadata(path: Path) -> dict[str, Any]:
    """What was given to the writer as `metadata`."""
    return metadata_of(pq.read_schema(path)) or {}


def _fill_shard(
    path: Path, first: Clip, stream: Iterator[Clip], metadata: dict[str, Any], shard_bytes: int
) -> Clip | None:
    """Writes `first` and what follows until the shard is full; returns the clip that no longer fits in."""
    with _open_shard(path, metadata) as shard:
        shard.add(first)
        for clip in stream:
            if shard.size_bytes + clip.size_bytes > shard_bytes:
                return clip
            shard.add(clip)
    return None


@contextmanager
def _open_shard(path: Path, metadata: dict[str, Any]) -> Iterator[_Shard]:
    schema = with_metadata(CLIP_SCHEMA, metadata)
    with (
        written_atomically(path) as unfinished,
        # JPEG does not shrink, and the other columns are small.
        pq.ParquetWriter(unfinished, schema, compression="none", use_dictionary=False) as writer,
    ):
        shard = _Shard(writer, schema)
        yield shard
        shard.flush_group()


class _Shard:
    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self.size_bytes = 0
        self._writer = writer
        self._schema = schema
        self._group: list[Clip] = []
        self._group_bytes = 0

    def add(self, clip: Clip) -> None:
        self._group.append(clip)
        self._group_bytes += clip.size_bytes
        self.size_bytes += clip.size_bytes
        if len(self._group) >= GROUP_CLIPS or self._group_bytes >= GROUP_BYTES:
            self.flush_group()

    def flush_group(self) -> None:
        if not self._group:
            return
        columns = {name: [_cell(clip, name) for clip in self._group] for name in CLIP_SCHEMA.names}
        self._writer.write_table(pa.table(columns, schema=self._schema))
        self._group, self._group_bytes = [], 0


def _cell(clip: Clip, column: str) -> Any:
    if column == "num_frames":
        return len(clip.frames)
    return clip.boxes.tolist() if column == "boxes" else getattr(clip, column)
