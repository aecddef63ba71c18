"""How much of a plan is done, in seconds of video."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

Key = tuple[str, int]  # name of a video or of an output, and number of its segment
Span = tuple[float, float]  # first and last presentation time


class Meter:
    """Told by workers how far they are (`tick`, from any thread), and of whatever is on the disk (`add`)."""

    def __init__(self, spans: Mapping[Key, Span]) -> None:
        self._spans = spans
        self.total_seconds = sum(stop - start for start, stop in spans.values())
        self.on_change: Callable[..., None] = lambda done, **counts: None
        self._done: dict[Key, float] = {}
        self._done_seconds = 0.0
        self._under_way: Counter[Key] = Counter()  # frames of segments of which nothing is on the disk yet
        self._counts = {"frames": 0, "faces": 0}
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def tick(self, key: Key, pts_seconds: float, num_frames: int = 0) -> None:
        start, stop = self._spans[key]
        with self._lock:
            if num_frames:
                self._under_way[key] = num_frames
            self._set(key, min(max(pts_seconds - start, 0.0), stop - start))

    def add(self, key: Key, num_frames: int, num_faces: int, *, is_last: bool = True) -> None:
        with self._lock:
            del self._under_way[key]
            self._counts["frames"] += num_frames
            self._counts["faces"] += num_faces
            if is_last:
                start, stop = self._spans[key]
                self._set(key, stop - start)

    def _set(self, key: Key, seconds: float) -> None:
        self._done_seconds += seconds - self._done.get(key, 0.0)
        self._done[key] = seconds
        counts = self._counts | {"frames": self._counts["frames"] + self._under_way.total()}
        rate = counts["frames"] / max(time.monotonic() - self._started, 1e-3)
        self.on_change(self._done_seconds, **counts, frames_per_second=round(rate, 1))
