"""What stretch of time each segment covers, in seconds of presentation time: what progress is measured by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fcvideo.running.throughput import Key, Span
from fcvideo.survey.ledger import VideoState
from fcvideo.survey.reading import SEGMENT_SECONDS
from fcvideo.video.segments import Segment


def key_of(segment: Segment) -> Key:
    return segment.source.name, segment.index


def missing_spans(states: Iterable[VideoState]) -> dict[Key, Span]:
    """Of all segments that are still to be looked at."""
    return {key_of(segment): span_of(segment, state.known) for state in states for segment in state.missing}


def missing_seconds(states: Iterable[VideoState]) -> float:
    return sum(stop - start for start, stop in missing_spans(states).values())


def span_of(segment: Segment, info: Mapping[str, Any]) -> Span:
    """First and last presentation time, from the header where the plan does not say."""
    duration = info.get("duration_seconds")
    start = info.get("start_seconds") or 0.0
    stop = start + (SEGMENT_SECONDS if duration is None else duration)
    if segment.start_pts is not None:
        start = float(segment.start_pts * segment.time_base)
    if segment.end_pts is not None:
        stop = float(segment.end_pts * segment.time_base)
    return start, max(start, stop)
