"""How much of a plan is done, in seconds of video."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from fcvideo.jobs.encoding import Written
from fcvideo.jobs.ledger import VideoState
from fcvideo.jobs.reading import SEGMENT_SECONDS
from fcvideo.video.segments import Segment


class Meter:
    """Told by readers how far they are (`tick`, from any thread), and of every chunk that is on the disk (`add`)."""

    def __init__(self, states: Iterable[VideoState]) -> None:
        self._spans = {
            (state.source.name, segment.index): _span(segment, state.known)
            for state in states
            for segment in state.missing
        }
        self.total_seconds = sum(stop - start for start, stop in self._spans.values())
        self.on_change: Callable[..., None] = lambda done, **counts: None
        self._done: dict[tuple[str, int], float] = {}
        self._done_seconds = 0.0
        self._counts = {"frames": 0, "faces": 0}
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def tick(self, segment: Segment, pts_seconds: float) -> None:
        key = segment.source.name, segment.index
        start, stop = self._spans[key]
        with self._lock:
            self._set(key, min(max(pts_seconds - start, 0.0), stop - start))

    def add(self, written: Written) -> None:
        key = written.video, written.segment
        with self._lock:
            self._counts["frames"] += written.num_frames
            self._counts["faces"] += written.num_faces
            if written.is_last:
                start, stop = self._spans[key]
                self._set(key, stop - start)

    def _set(self, key: tuple[str, int], seconds: float) -> None:
        self._done_seconds += seconds - self._done.get(key, 0.0)
        self._done[key] = seconds
        rate = self._counts["frames"] / max(time.monotonic() - self._started, 1e-3)
        self.on_change(self._done_seconds, **self._counts, frames_per_second=round(rate, 1))


def _span(segment: Segment, info: dict[str, Any]) -> tuple[float, float]:
    """First and last presentation time, from the header where the plan does not say."""
    start = info.get("start_seconds") or 0.0
    stop = start + (info.get("duration_seconds") or SEGMENT_SECONDS)
    if segment.start_pts is not None:
        start = float(segment.start_pts * segment.time_base)
    if segment.end_pts is not None:
        stop = float(segment.end_pts * segment.time_base)
    return start, max(start, stop)
