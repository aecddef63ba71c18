"""What a run leaves: the table, as one file or as a folder with a file per video, and the videos table beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fcvideo.atomic import clear_leftovers, too_long
from fcvideo.errors import OutputError
from fcvideo.tables.compact import track_faces, tracked_rows, write_table
from fcvideo.tables.parts import refuse_other_identity, video_key
from fcvideo.tables.schema import embeddings_schema, metadata_of, videos_schema, videos_table


@dataclass(frozen=True)
class VideoResult:
    """One input's row of the videos table, and where its faces' rows come from."""

    row: dict[str, Any]
    parts: Sequence[Path] | None  # None: as the earlier result has them


class Result:
    """The files behind `--out`; a name that ends in / or is a folder already means a folder."""

    def __init__(self, out: str) -> None:
        self.path = Path(out)
        if self.path.name in ("", ".."):
            raise OutputError(f"{out}: expected the name of a file, or of a folder of its own")
        self.is_folder = out.endswith("/") or self.path.is_dir()
        if not self.is_folder and self.path.suffix not in ("", ".parquet"):
            raise OutputError(
                f"{out}: found the suffix {self.path.suffix}, expected .parquet, or a folder's name with /"
            )
        stem = self.path.name if self.is_folder else self.path.stem
        self.videos_path = self.path.with_name(f"{stem}.videos.parquet")
        self.parts_folder = self.path.with_name(f"{self.path.name}.parts")
        for place in (self.videos_path, self.parts_folder):
            if problem := too_long(place):
                raise OutputError(f"{out}: {problem}, for {place.name[-15:]} beside it; choose a shorter --out")

    @property
    def is_there(self) -> bool:
        return any(self.path.iterdir()) if self.path.is_dir() else self.path.exists()

    def check(self, identity: dict[str, Any], *, is_resumed: bool) -> None:
        """Whether what stands there may be completed by a run of this identity. `is_resumed`: its parts are there.

        Errors: OutputError, which names the first thing that stands against it.
        """
        if not self.is_there:
            return
        place = self.videos_path if self.videos_path.exists() else self.path
        if not place.is_file():
            raise OutputError(f"{self.path}/: holds files of another origin; choose another --out")
        try:
            found = metadata_of(pq.read_schema(place))
        except (OSError, pa.ArrowInvalid):
            found = None
        if found is None:
            raise OutputError(f"{place}: not a table of fcvideo; --overwrite replaces it")
        refuse_other_identity(place, {k: v for k, v in found.items() if k in identity}, identity)
        if not self.videos_path.exists() and not is_resumed:
            raise OutputError(f"{self.path}: its {self.videos_path.name} is missing; --overwrite starts anew")

    def videos(self) -> dict[str, dict[str, Any]]:
        """The videos table of the earlier result, by name; empty where there is none."""
        if not (self.is_there and self.videos_path.exists()):
            return {}
        return {row["video"]: row for row in pq.read_table(self.videos_path).to_pylist()}

    def write(
        self,
        videos: Sequence[VideoResult],
        code_dim: int,
        metadata: dict[str, Any],
        tick: Callable[[int], None] = lambda num_videos_done: None,
    ) -> list[dict[str, Any]]:
        """Both tables, sorted by video; gives the rows of the videos table, tracks counted."""
        for path in (self.path, self.videos_path):
            clear_leftovers(path.parent, path.name)
        videos = sorted(videos, key=lambda video: video.row["video"])
        rows = [dict(video.row) for video in videos]
        schema = embeddings_schema(code_dim)
        if self.is_folder:
            self._write_folder(videos, rows, schema, metadata, tick)
        else:
            write_table(self.path, schema, self._all_rows(videos, rows, tick), metadata)
        write_table(self.videos_path, videos_schema(), [videos_table(rows)], metadata)
        return rows

    def _all_rows(
        self, videos: Sequence[VideoResult], rows: list[dict[str, Any]], tick: Callable[[int], None]
    ) -> Iterator[pa.Table]:
        for done, (video, row) in enumerate(zip(videos, rows, strict=True), start=1):
            yield from self._rows(video, row)
            tick(done)

    def _write_folder(
        self,
        videos: Sequence[VideoResult],
        rows: list[dict[str, Any]],
        schema: pa.Schema,
        metadata: dict[str, Any],
        tick: Callable[[int], None],
    ) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        for done, (video, row) in enumerate(zip(videos, rows, strict=True), start=1):
            file = self.path / _file_name(row["video"])
            if video.parts:
                write_table(file, schema, self._rows(video, row), metadata)
            elif video.parts is not None:
                file.unlink(missing_ok=True)
            tick(done)
        for dropped in self.videos().keys() - {row["video"] for row in rows}:
            (self.path / _file_name(dropped)).unlink(missing_ok=True)

    def _rows(self, video: VideoResult, row: dict[str, Any]) -> Iterator[pa.Table]:
        """The video's rows; `num_tracks` of its own row is set on the way."""
        if video.parts is None:
            yield from self._earlier.rows(row["video"])
            return
        tracks = track_faces(video.parts)
        row["num_tracks"] = len(np.unique(tracks))
        yield from tracked_rows(video.parts, tracks)

    @cached_property
    def _earlier(self) -> EarlierTable:
        return EarlierTable(self.path)


class EarlierTable:
    """The finished table of an earlier run, read video by video while its successor is written."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._group_starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._spans = self._find_spans()
        self._group: tuple[int, pa.Table] | None = None

    @property
    def videos(self) -> list[str]:
        """Names, in the order of their rows."""
        return list(self._spans)

    def _find_spans(self) -> dict[str, tuple[int, int]]:
        """Video -> first row and the row after its last; a video's rows stand together."""
        spans: dict[str, tuple[int, int]] = {}
        position = 0
        for batch in self._file.iter_batches(columns=["video"]):
            runs = pc.run_end_encode(batch.column(0))
            start = position
            for video, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                spans[video] = (spans[video][0] if video in spans else start, position + end)
                start = position + end
            position += batch.num_rows
        return spans

    def rows(self, video: str) -> Iterator[pa.Table]:
        start, stop = self._spans.get(video, (0, 0))
        while start < stop:
            index = int(np.searchsorted(self._group_starts, start, side="right")) - 1
            first, after = int(self._group_starts[index]), min(stop, int(self._group_starts[index + 1]))
            yield self._read_group(index).slice(start - first, after - start)
            start = after

    def _read_group(self, index: int) -> pa.Table:
        if self._group is None or self._group[0] != index:
            self._group = (index, self._file.read_row_group(index))
        return self._group[1]


def _file_name(video: str) -> str:
    """Readable, and unique where names differ in their folders or last letters alone."""
    readable = re.sub(r"[^\w.-]+", "_", Path(video).stem)[:60]
    return f"{readable}-{video_key(video)}.parquet"
