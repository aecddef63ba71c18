"""The folder that `prepare` fills: a part per finished video while it works, shards and a table of videos after.

    .parts/<video>/clips.parquet   clips of one video, and what is known of it; an empty one for a video that failed
    clips-00000.parquet ..         shards
    clips.videos.parquet           a row per video; names the number of shards, so that a half-written one is told apart

Videos that come later are added in further shards.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fcvideo.atomic import clear_leftovers, written_atomically
from fcvideo.clips.shards import UNFINISHED, VIDEOS_SUFFIX, Clip, read_clips, read_metadata, write_clips, write_shard
from fcvideo.errors import OutputError
from fcvideo.tables.parts import Begun, Parts, refuse_other_identity, video_key
from fcvideo.tables.schema import metadata_of, videos_schema, with_metadata

_COUNTS: list[pa.Field] = [
    pa.field("num_frames_failed", pa.int64(), nullable=False),
    pa.field("num_tracks_too_small", pa.int64(), nullable=False),
    pa.field("num_tracks_too_short", pa.int64(), nullable=False),
    pa.field("num_clips", pa.int64(), nullable=False),
    pa.field("num_clip_frames", pa.int64(), nullable=False),
]

_OWN_NAME = re.compile(r"clips-(\d{5,})\.parquet|clips\.videos\.parquet")

Record = dict[str, Any]


def clip_videos_schema() -> pa.Schema:
    """`embed`'s table of videos without the frames decoded (prepare does not decode all), and with counts of clips."""
    fields = [field for field in videos_schema() if field.name != "num_frames_decoded"]
    return pa.schema(fields + _COUNTS)


def write_part(folder: Path, clips: Iterable[Clip], record: Record) -> None:
    """Marks a video done, on any machine that sees `folder`; `record` has the columns of `clip_videos_schema`."""
    part = _part_path(folder, record["video"])
    part.parent.mkdir(exist_ok=True)
    write_shard(part, clips, record)


def worth_another_try(record: Record, *, retries_failed: bool = False) -> bool:
    """An `error` may have been the network's, the disk's or memory's fault; other failures are the file's own."""
    has_failed = record["status"] not in ("ok", "damaged") if retries_failed else record["status"] == "error"
    return has_failed and not record["num_clips"]


def _part_path(folder: Path, video: str) -> Path:
    return folder / UNFINISHED / video_key(video) / "clips.parquet"


class ClipFolder:
    """`identity` is whatever decides what the clips look like; shards carry it as their metadata.

    Errors: OutputError where other clips lie, or another process is at work.
    """

    def __init__(self, path: Path, identity: dict[str, Any], inputs: str, *, overwrite: bool) -> None:
        """`inputs` as `tables.parts.inputs_key` gives it: a killed run with `overwrite` is gone on with."""
        self.path = path
        self.identity = identity
        self._inputs = inputs
        self._parts = Parts(path / UNFINISHED)
        self._table = path / f"clips{VIDEOS_SUFFIX}"
        self._finished: dict[str, Record] = {}
        self._num_shards = 0
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path}: is a file; --out of prepare names a folder")
        if others := [name for name in self._tables() if not _OWN_NAME.fullmatch(name)]:
            raise OutputError(f"{path}: {others[0]} there is not prepare's; choose another --out")
        self._overwrite = overwrite
        self._look(self._parts.begun(identity, inputs, overwrite=overwrite))

    @property
    def is_finished(self) -> bool:
        return self._table.is_file() and not self._parts.folder.exists()

    @property
    def records(self) -> dict[str, Record]:
        """Of the videos whose clips are in shards, by name."""
        return self._finished

    def claim(self) -> None:
        """Takes the folder for this process, and looks again at what another may have finished meanwhile.

        With `overwrite`, clips of earlier runs are removed.
        """
        self._look(self._parts.claim(self.identity, self._inputs, overwrite=self._overwrite))
        clear_leftovers(self.path, "clips*")
        if self._is_fresh:
            self._table.unlink(missing_ok=True)
        for name in self._tables():
            if (match := _OWN_NAME.fullmatch(name)) and match[1] and int(match[1]) >= self._num_shards:
                (self.path / name).unlink()  # of a run that was stopped before it wrote the record

    def release(self) -> None:
        self._parts.release()

    def record(self, video: str) -> Record | None:
        """What is known of a video that is done; nothing is, when all is to be done anew."""
        if self._is_fresh:
            return None
        if (part := _part_path(self.path, video)).is_file():
            return read_metadata(part)
        return self._finished.get(video)

    def forget(self, video: str) -> None:
        """The video is not done after all. Errors: OutputError where its clips are in a shard already."""
        if self._finished.get(video, {}).get("num_clips"):
            raise OutputError(f"{self.path}: {video} has changed since its faces were cut; --overwrite starts anew")
        self._parts.discard_video(video_key(video))

    def finish(self) -> None:
        """Moves all parts into shards, in order of the videos' names."""
        parts = {record["video"]: (part, record) for part, record in self._read_parts()}
        names = sorted(parts.keys() - {name for name, record in self._finished.items() if record["num_clips"]})
        clips = itertools.chain.from_iterable(read_clips(parts[name][0]) for name in names)
        shards = write_clips(self.path, clips, self.identity, first_shard=self._num_shards)
        self._finished |= {name: parts[name][1] for name in names}
        self._num_shards += len(shards)
        metadata = {"identity": self.identity, "num_shards": self._num_shards}
        rows = [self._finished[name] for name in sorted(self._finished)]
        table = pa.Table.from_pylist(rows, schema=with_metadata(clip_videos_schema(), metadata))
        with written_atomically(self._table) as unfinished:
            pq.write_table(table, unfinished)
        self._parts.remove(map(video_key, parts))

    def _look(self, begun: Begun) -> None:
        """What is finished here; nothing is where all is to be done anew."""
        self._finished, self._num_shards = {}, 0
        self._is_fresh = begun.replaces and not begun.is_resumed
        if self._is_fresh:
            return
        if self._table.is_file():
            table = pq.read_table(self._table)
            metadata = metadata_of(table.schema) or {}
            refuse_other_identity(self.path, metadata.get("identity", {}), self.identity)
            self._finished = {record["video"]: record for record in table.to_pylist()}
            self._num_shards = metadata["num_shards"]
        elif not begun.is_resumed and (shards := self._tables()):
            raise OutputError(f"{self.path}: {shards[0]} there has no record beside it; --overwrite removes it")

    def _tables(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("*.parquet") if not path.name.startswith("."))

    def _read_parts(self) -> Iterator[tuple[Path, Record]]:
        for part in self._parts.folder.glob("*/clips.parquet"):
            yield part, read_metadata(part)
