"""Where the rows of a source come from: parts of a survey, or a table that `embed` wrote. And its segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fcvideo.assembly.orders import MotionSource
from fcvideo.errors import InputError
from fcvideo.survey.reading import SEGMENT_SECONDS
from fcvideo.tables.compact import find_cuts, read_rows, track_faces
from fcvideo.tables.result import EarlierTable
from fcvideo.tables.schema import metadata_of
from fcvideo.tables.seen_faces import Rows, check_columns, check_rows
from fcvideo.video.inputs import Source
from fcvideo.video.segments import Segment

TABLE_SUFFIX = ".parquet"
TABLE_TIME_BASE = Fraction(1, 1_000_000)
USUAL_STEP_SECONDS = 0.04  # where nothing tells one


@dataclass(frozen=True)
class SourceRows:
    """`track_ids` of all faces and `cuts` between shots, where the rows have none of their own."""

    rows: Rows
    track_ids: np.ndarray | None
    cuts: np.ndarray  # (C,) int64, frame_index of the first frames of shots


def rows_of_parts(parts: Sequence[Path]) -> SourceRows:
    return SourceRows(lambda columns: read_rows(parts, columns), track_faces(parts), find_cuts(parts))


@dataclass(frozen=True)
class Window:
    """A stretch of presentation time; None: no bound."""

    start_seconds: float | None
    duration_seconds: float | None

    @property
    def is_excerpt(self) -> bool:
        return self.start_seconds is not None or self.duration_seconds is not None


class CodeTable:
    """A table of face codes that stands for the videos that it was made of."""

    def __init__(self, path: Path, model_hash: str, code_dim: int) -> None:
        """Errors: InputError for a table of another origin, or of another model, or without rows."""
        with _named_errors(path):
            schema = pq.read_schema(path)
            found = metadata_of(schema)
            if not isinstance(found, dict) or "model_hash" not in found:
                raise InputError(f"{path}: found a table of other origin, expected one that embed wrote")
            check_columns(schema, code_dim, str(path))
            self._table = EarlierTable(path)
        if not self._table.videos:
            raise InputError(f"{path}: found no rows, expected those of a video that embed read")
        if found["model_hash"] != model_hash:
            raise InputError(
                f"{path}: its codes are of the model {found.get('model')} ({found['model_hash'][:12]}), "
                f"not of --model ({model_hash[:12]}); the two must be the same"
            )
        self.path = path

    def sources(self) -> list[MotionSource]:
        """One for each video in the table."""
        return [MotionSource(Source(str(self.path.resolve()), video), is_table=True) for video in self._table.videos]

    def rows(self, video: str, window: Window) -> SourceRows:
        """With times that never go back, which the window bounds.

        Errors: InputError for rows that embed does not write.
        """
        with _named_errors(self.path):
            check_rows(self._table.rows(video), video, f"{self.path}: {video}")
        start = stop = None
        if window.is_excerpt:
            first = next(_going_on(self._table.rows(video)))["pts_seconds"][0].as_py() or 0.0
            start = first if window.start_seconds is None else window.start_seconds
            stop = None if window.duration_seconds is None else start + window.duration_seconds

        def read(columns: list[str]) -> Iterable[pa.Table]:
            for table in _going_on(self._table.rows(video)):
                times = table["pts_seconds"]
                is_within = times.is_valid() if start is None else pc.greater_equal(times, start)
                if stop is not None:
                    is_within = pc.and_(is_within, pc.less(times, stop))
                yield table.filter(is_within).select(columns)

        return SourceRows(read, None, np.empty(0, np.int64))


def _going_on(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Rows of a video in order: where a recording's clock starts again, its times go on after a usual step."""
    last_index, last_seconds, offset, usual = -1, -np.inf, 0.0, USUAL_STEP_SECONDS
    for table in tables:
        index, seconds = table["frame_index"].to_numpy(), table["pts_seconds"].to_numpy()
        steps = np.diff(seconds, prepend=last_seconds)
        is_next = np.diff(index, prepend=last_index) != 0
        if (ahead := steps[is_next & (steps > 0) & np.isfinite(steps)]).size:
            usual = float(np.median(ahead))
        offsets = offset + np.cumsum(np.where(is_next & (steps <= 0), usual - steps, 0.0))
        moved = seconds + offsets
        if len(index):
            last_index, last_seconds, offset = int(index[-1]), float(seconds[-1]), float(offsets[-1])
        place = table.schema.get_field_index("pts_seconds")
        yield table.set_column(place, table.schema.field(place), pa.array(moved, pa.float64(), mask=np.isnan(moved)))


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:  # ValueError: metadata that are not JSON
        raise InputError(f"{path}: not a table that can be read ({type(error).__name__})") from None


def table_segments(source: Source, pts_seconds: np.ndarray) -> Iterator[Segment]:
    """Stretches of about as much time as a video's segments."""
    cuts = [0]
    for position, seconds in enumerate(pts_seconds.tolist()):
        if seconds - pts_seconds[cuts[-1]] >= SEGMENT_SECONDS:
            cuts.append(position)
    bounds = [round(Fraction(float(pts_seconds[cut])) / TABLE_TIME_BASE) for cut in cuts]
    for index, start_pts in enumerate(bounds):
        end_pts = bounds[index + 1] if index + 1 < len(bounds) else None
        yield Segment(source, index, len(cuts), TABLE_TIME_BASE, True, start_pts=start_pts, end_pts=end_pts)
