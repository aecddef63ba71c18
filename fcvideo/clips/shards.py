"""Writes clips as Parquet shards, each under another name first, flushed and renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
METADATA_KEY = b"fcvideo"
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
    with _AtomicShard(path, metadata) as shard:
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
    return json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}"))


def _fill_shard(
    path: Path, first: Clip, stream: Iterator[Clip], metadata: dict[str, Any], shard_bytes: int
) -> Clip | None:
    """Writes `first` and what follows until the shard is full; returns the clip that no longer fits in."""
    with _AtomicShard(path, metadata) as shard:
        shard.add(first)
        for clip in stream:
            if shard.size_bytes + clip.size_bytes > shard_bytes:
                return clip
            shard.add(clip)
    return None


class _AtomicShard:
    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        self.path = path
        self.size_bytes = 0
        self._unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        self._schema = CLIP_SCHEMA.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
        self._group: list[Clip] = []
        self._group_bytes = 0

    def __enter__(self) -> _AtomicShard:
        self._sink = self._unfinished.open("wb")
        # JPEG does not shrink; the other columns are small.
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="none", use_dictionary=False)
        return self

    def add(self, clip: Clip) -> None:
        self._group.append(clip)
        self._group_bytes += clip.size_bytes
        self.size_bytes += clip.size_bytes
        if len(self._group) >= GROUP_CLIPS or self._group_bytes >= GROUP_BYTES:
            self._flush_group()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush_group()
        self._writer.close()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        self._sink.close()
        if kind is None:
            self._unfinished.replace(self.path)
            _sync_folder(self.path.parent)
        else:
            self._unfinished.unlink()

    def _flush_group(self) -> None:
        if not self._group:
            return
        columns = {name: [_cell(clip, name) for clip in self._group] for name in CLIP_SCHEMA.names}
        self._writer.write_table(pa.table(columns, schema=self._schema))
        self._group, self._group_bytes = [], 0


def _cell(clip: Clip, column: str) -> Any:
    if column == "num_frames":
        return len(clip.frames)
    return clip.boxes.tolist() if column == "boxes" else getattr(clip, column)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
