"""Faces become clips: one per track, long ones in pieces, none across a cut."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from fcvideo.clips.cut import LONGEST_CLIP, ClipCutter
from fcvideo.clips.shards import Clip

RNG = np.random.default_rng(0)
PERSONS = [np.kron(RNG.integers(0, 255, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8) for _ in range(2)]


def cut(
    rows: list[tuple[int, float, int]], min_frames: int = 2, min_face_px: int = 10
) -> tuple[list[Clip], ClipCutter]:
    """`rows`: frame, x of the box, person."""
    with tempfile.TemporaryFile() as spool:
        cutter = ClipCutter("v.mp4", min_frames, min_face_px, spool)
        for frame, x, person in rows:
            cutter.add(frame, frame / 6, np.array([x, 20, 40, 50], np.float32), PERSONS[person])
        return list(cutter.cut()), cutter


def test_two_faces_side_by_side_are_two_clips() -> None:
    clips, cutter = cut([(frame, 100.0 * person, person) for frame in range(5) for person in (0, 1)])
    assert [clip.clip_id for clip in clips] == ["v.mp4#0", "v.mp4#1"]
    assert [clip.frame_index for clip in clips] == [[0, 1, 2, 3, 4]] * 2
    assert [float(clip.boxes[0, 0]) for clip in clips] == [0, 100]
    assert [clip.person for clip in clips] == [None, None]
    assert (cutter.counts.num_faces, cutter.counts.num_clips, cutter.counts.num_clip_frames) == (10, 2, 10)


def test_the_order_in_which_segments_come_does_not_matter() -> None:
    rows = [(frame, 0.0, 0) for frame in range(6)]
    forward, _ = cut(rows)
    backward, _ = cut(rows[3:] + rows[:3])
    assert forward[0].frames == backward[0].frames
    assert backward[0].pts_seconds == [frame / 6 for frame in range(6)]


def test_another_face_in_the_same_place_is_another_clip() -> None:
    clips, cutter = cut([(frame, 0.0, int(frame >= 4)) for frame in range(8)])
    assert [clip.frame_index for clip in clips] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert cutter.counts.num_tracks == 2


def test_a_long_track_becomes_pieces_of_one_person() -> None:
    clips, cutter = cut([(frame, 0.0, 0) for frame in range(LONGEST_CLIP + 10)])
    assert [clip.clip_id for clip in clips] == ["v.mp4#0.0", "v.mp4#0.1"]
    assert {clip.person for clip in clips} == {"v.mp4#0"}
    assert sum(len(clip.frames) for clip in clips) == LONGEST_CLIP + 10
    assert (cutter.counts.num_tracks, cutter.counts.num_clips) == (1, 2)


def test_short_and_small_tracks_are_counted() -> None:
    rows = [(frame, 0.0, 0) for frame in range(3)]
    assert cut(rows, min_frames=4)[1].counts.num_tracks_too_short == 1
    assert cut(rows, min_face_px=51)[1].counts.num_tracks_too_small == 1
    assert len(cut(rows, min_face_px=50)[0]) == 1


def test_a_video_without_faces_gives_no_clips(tmp_path: Path) -> None:
    clips, cutter = cut([])
    assert (clips, cutter.counts.num_tracks) == ([], 0)
