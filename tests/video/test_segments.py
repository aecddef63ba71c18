"""Cutting into segments changes nothing: same frames, times, indices and pixels as one read."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from fcvideo.video.inputs import Source
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments
from tests.conftest import frame_number


def rows(path: Path, segment_seconds: float, fps: float | None = None) -> list[tuple]:
    """One tuple a frame, with a checksum of its pixels."""
    return [
        (
            frame.frame_index,
            frame.pts_seconds,
            frame.is_damaged,
            None if frame.image is None else hash(frame.image.tobytes()),
        )
        for segment in plan_segments(Source(str(path), path.name), segment_seconds)
        for frame in read_frames(pickle.loads(pickle.dumps(segment)), fps)
    ]


@pytest.mark.parametrize(
    ("name", "seconds", "num_segments"),
    [
        ("cap13_edit2.mp4", 1.0, 4),
        ("hamilton.mp4", 0.5, 6),
        ("lp_d12.mp4", 1.0, 2),
        ("hostile/corrupt_mid_block.mp4", 1.0, 4),
        ("hostile/trunc_faststart.mp4", 1.0, 3),
        ("hostile/reschange.ts", 1.0, 1),
    ],
)
def test_segments_in_a_row_are_the_whole(media: Path, name: str, seconds: float, num_segments: int) -> None:
    assert len(plan_segments(Source(str(media / name), name), seconds)) == num_segments
    assert rows(media / name, seconds) == rows(media / name, 1e6)
    assert rows(media / name, seconds, fps=3.7) == rows(media / name, 1e6, fps=3.7)


def test_recordings_joined_to_each_other_lose_nothing(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    joined = tmp_path / "joined.ts"
    for number, start in enumerate((20_000, 10_000, 1_000)):
        part = make_video(tmp_path / f"{number}.ts", 12, pts=[start + 40 * i for i in range(12)], b_frames=2)
        joined.open("ab").write(part.read_bytes())
    (segment,) = plan_segments(Source(str(joined), "joined.ts"), segment_seconds=0.1)
    frames = list(read_frames(segment))
    assert [frame.frame_index for frame in frames] == list(range(36))
    assert [frame_number(frame.image) for frame in frames] == [*range(12)] * 3
    assert [round(frame.pts_seconds) for frame in frames[::12]] == [20, 10, 1]
