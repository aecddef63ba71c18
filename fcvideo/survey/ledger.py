"""What is known of every input, what of it is done and what is missing: in the parts, or in an earlier result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from fcvideo.survey.reading import VideoPlan
from fcvideo.tables.parts import Parts, read_record, video_key
from fcvideo.tables.result import VideoResult
from fcvideo.video.inputs import Source
from fcvideo.video.probe import Edition
from fcvideo.video.segments import Segment

UNFAILED = ("ok", "damaged")
WORTH_ANOTHER_TRY = ("error",)  # a disk, a network or memory may be back; the other failures are in the file
_SEVERITY = ("ok", "damaged", "no_frames", "error", "crashed")


@dataclass
class VideoState:
    """One input between planning and its row in the videos table."""

    source: Source
    known: dict[str, Any]  # the row, but for its counts; and num_segments
    missing: tuple[Segment, ...] = ()
    carried_row: dict[str, Any] | None = None  # finished by an earlier run, in its result
    segments: tuple[Segment, ...] = ()  # all that were planned; none where the plan was not needed

    @property
    def num_segments(self) -> int:
        return 0 if self.carried_row else self.known["num_segments"]


@dataclass
class Ledger:
    """`earlier` holds the rows of the earlier result by name; `is_fresh` looks at none of what is there.

    `retries_failed`: videos of any failure are tried again, not only those of a failure that may pass.
    """

    parts: Parts
    earlier: dict[str, dict[str, Any]]
    is_fresh: bool = False
    retries_failed: bool = False

    def _is_final(self, status: str) -> bool:
        return status in UNFAILED if self.retries_failed else status not in WORTH_ANOTHER_TRY

    def known(self, source: Source) -> Edition | None:
        """The video as it was when it was finished; None for one that still needs a plan."""
        key = video_key(source.name)
        if self.is_fresh:
            return None
        if known := self.parts.read_video(key):
            is_finished = len(self.parts.finished(key)) == known["num_segments"]
            return _edition(known) if is_finished and self._is_final(known["status"]) else None
        if row := self.earlier.get(source.name):
            return _edition(row) if self._is_final(row["status"]) else None
        return None

    def enter(self, plan: VideoPlan, *, keep: bool) -> VideoState:
        """Takes a plan in; `keep` writes it down beside the parts, and drops those of another content."""
        source, key = plan.source, video_key(plan.source.name)
        known = self.parts.read_video(key)
        is_unchanged = _is_same(plan, self.known(source))
        if is_unchanged and known is not None:
            return VideoState(source, known, segments=plan.segments)
        if is_unchanged:
            return VideoState(source, {}, carried_row=self.earlier[source.name])
        is_same_content = known is not None and _is_same(plan, _edition(known)) and not self.is_fresh
        done = self.parts.finished(key) if is_same_content else {}
        known = _describe(plan)
        if keep:
            if not is_same_content:
                self.parts.discard_video(key)
            self.parts.write_video(key, known)
        missing = tuple(segment for segment in plan.segments if segment.index not in done)
        return VideoState(source, known, missing, segments=plan.segments)

    def results(self, states: Iterable[VideoState]) -> Iterator[VideoResult]:
        """The videos table's rows, counted from the finished parts."""
        for state in states:
            if state.carried_row is not None:
                yield VideoResult(state.carried_row, None)
            else:
                yield self._result(state)

    def _result(self, state: VideoState) -> VideoResult:
        row = {name: value for name, value in state.known.items() if name != "num_segments"}
        row |= dict.fromkeys(("num_frames_sampled", "num_frames_decoded", "num_faces", "num_tracks"), 0)
        row["seconds_spent"] = 0.0
        paths: list[Path] = []
        for segment_paths in self.parts.finished(video_key(state.source.name)).values():
            for path in segment_paths:
                record = read_record(path)
                for name in ("num_frames_sampled", "num_frames_decoded", "num_faces"):
                    row[name] += record[name]
                row["seconds_spent"] += record["seconds"]
                is_damaged = record["num_damaged"] or record["num_frames_decoded"] < record["num_frames_sampled"]
                _worsen(row, "damaged" if is_damaged else "ok", None)
                _worsen(row, record["status"], record["error"])
                paths.append(path)
        if row["status"] == "damaged" and row["error"] is None:
            num_lost = row["num_frames_sampled"] - row["num_frames_decoded"]
            row["error"] = f"{num_lost} of {row['num_frames_sampled']} sampled frames lost, others perhaps disturbed"
        return VideoResult(row, paths)


def _edition(row: dict[str, Any]) -> Edition | None:
    """None for a file that could not be opened."""
    if row["video_id"] is None:
        return None
    return Edition(row["video_id"], row.get("modified_seconds"), row.get("content_hash"))


def _is_same(plan: VideoPlan, known: Edition | None) -> bool:
    """A good plan with nothing but the fingerprint is of a video that its reader knows to be the same."""
    if known is None or plan.video_id is None:
        return False
    if plan.info is None:
        return known.is_same_content(plan.video_id, None if plan.status == "ok" else "")
    return known.is_same_content(plan.video_id, plan.info.content_hash)


def _describe(plan: VideoPlan) -> dict[str, Any]:
    info = asdict(plan.info) if plan.info is not None else {}
    for name in ("num_frames_from_header", "other_streams"):
        info.pop(name, None)
    return {
        "video": plan.source.name,
        "video_id": plan.video_id,
        **{name: str(value) if isinstance(value, Fraction) else value for name, value in info.items()},
        "num_segments": len(plan.segments),
        "status": plan.status,
        "error": plan.error,
    }


def _worsen(row: dict[str, Any], status: str, error: str | None) -> None:
    """The worst status of its segments is the video's; of several equally bad ones the first tells why."""
    if _rank(status) > _rank(row["status"]):
        row["status"], row["error"] = status, error


def _rank(status: str) -> int:
    return _SEVERITY.index(status) if status in _SEVERITY else _SEVERITY.index("error")
