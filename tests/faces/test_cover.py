"""What is covered where, of detections made by hand at 25 frames a second in a picture of 640 x 360."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fcvideo.faces.cover import (
    GROWTH_PER_SECOND,
    HOLD_SECONDS,
    SLACK,
    WEAK_SCORE,
    Cover,
    Sightings,
    cover_faces,
    spans,
)

TIMES = np.arange(100) / 25
SIZE = 640, 360


def boxes_at(x: np.ndarray, y: float = 180.0, height: float = 100.0) -> np.ndarray:
    """(N, 4) around centres `x`, `y`."""
    x = np.asarray(x, np.float64)
    return np.stack([x - 40, np.full(len(x), y - height / 2), np.full(len(x), 80.0), np.full(len(x), height)], axis=1)


def sightings(frames: np.ndarray, boxes: np.ndarray, scores: float | np.ndarray = 0.9, track: int = 0) -> Sightings:
    return Sightings(frames, boxes, np.broadcast_to(scores, len(frames)), np.full(len(frames), track))


def together(*parts: Sightings) -> Sightings:
    joined = [np.concatenate(values) for values in zip(*(vars(part).values() for part in parts), strict=True)]
    both = Sightings(*joined)
    return both[np.argsort(both.frame, kind="stable")]


def cover(seen: Sightings, cuts: tuple[int, ...] = (), score: float = 0.5) -> Cover:
    return cover_faces(TIMES, np.searchsorted(cuts, np.arange(100), "right"), seen, SIZE, score)


def covered(found: Cover) -> list[int]:
    """Frames in which a face is covered."""
    return sorted({frame for face in found.faces for frame in range(face.first, face.end)})


def holds(box: np.ndarray, other: np.ndarray) -> bool:
    return bool((box[:2] <= other[:2]).all() and (box[:2] + box[2:] >= other[:2] + other[2:]).all())


def walking(frames: np.ndarray) -> np.ndarray:
    return boxes_at(200 + 2.0 * frames)


def test_between_two_sightings_the_box_moves_with_the_head_and_grows():
    frames = np.r_[10:40, 60:90]
    (face,) = cover(sightings(frames, walking(frames))).faces
    way = face.boxes[np.arange(100)[40:60] - face.first]
    middles = way[:, 0] + way[:, 2] / 2
    np.testing.assert_allclose(middles, 200 + 2.0 * np.arange(40, 60), atol=1.0)
    assert all(holds(box, true) for box, true in zip(way, walking(np.arange(40, 60)), strict=True))
    assert way[10, 3] > 100 * (1 + 0.3 * GROWTH_PER_SECOND)


def test_a_face_is_held_before_and_after_it_is_seen_and_its_motion_goes_on():
    frames = np.arange(30, 60)
    found = cover(sightings(frames, walking(frames)))
    (face,) = found.faces
    assert (face.first, face.end) == (30 - HOLD_SECONDS * 25, 60 + HOLD_SECONDS * 25)
    assert holds(face.boxes[63 - face.first], walking(np.array([63]))[0])  # 0.16 s later: gone on
    assert holds(face.boxes[26 - face.first], walking(np.array([26]))[0])
    last = face.boxes[-1, 0] + face.boxes[-1, 2] / 2
    assert 318 < last < 360  # and come to rest


def test_a_flash_is_held_for_a_moment_only():
    assert len(covered(cover(sightings(np.array([50]), walking(np.array([50])))))) <= 13


@pytest.mark.parametrize("cut", [35, 45])
def test_nothing_is_held_across_a_cut(cut: int):
    frames = np.r_[20:30, 60:90]
    found = cover(sightings(frames, walking(frames)), cuts=(cut,))
    first, second = found.faces
    assert first.end <= cut <= second.first
    assert first.end > 30
    assert second.first < 60


def test_who_walks_over_the_border_leaves_nothing_behind():
    frames = np.arange(20, 40)
    leaving = boxes_at(640 - 10.0 * (40 - frames))  # its centre is at the border after the last
    found = cover(sightings(frames, leaving))
    assert max(covered(found)) < 45
    assert not found.is_at_risk[50:].any()


def test_a_weak_sighting_counts_where_its_track_once_was_firm():
    frames, scores = np.arange(20, 60), np.full(40, WEAK_SCORE)
    scores[15] = 0.6
    found = cover(sightings(frames, walking(frames), scores))
    assert found.num_seen[20:60].tolist() == [1] * 40
    assert not found.is_at_risk[20:60].any()


def test_a_face_seen_only_weakly_is_not_covered_but_told():
    frames = np.arange(20, 60)
    found = cover(sightings(frames, walking(frames), 0.4))
    assert list(found.faces) == []
    assert np.flatnonzero(found.is_at_risk).tolist() == list(range(20, 60))
    assert not cover(sightings(frames[:2], walking(frames[:2]), 0.4)).is_at_risk.any()  # twice: no face
    assert not cover(sightings(frames, walking(frames), 0.35)).is_at_risk.any()


def test_a_track_that_was_long_away_is_not_drawn_from_one_place_to_the_other():
    frames = np.r_[0:10, 90:100]
    found = cover(sightings(frames, boxes_at(np.where(frames < 50, 100.0, 500.0))))
    assert len(found.faces) == 2
    assert not set(range(30, 70)) & set(covered(found))


def test_what_is_seen_once_must_be_seen_well():
    assert len(cover(sightings(np.array([50]), walking(np.array([50])), 0.6)).faces) == 0
    assert len(cover(sightings(np.array([50, 52]), walking(np.array([50, 52])), 0.6)).faces) == 1
    assert len(cover(sightings(np.array([50]), walking(np.array([50])), 0.6), score=0.0).faces) == 1


def test_at_the_border_less_is_enough():
    frames = np.arange(20, 60)
    cut_by_it = boxes_at(np.full(40, 20.0))
    assert cover(sightings(frames, cut_by_it, 0.4)).num_seen[20:60].all()


def test_a_part_of_a_face_is_no_face_of_its_own():
    frames = np.arange(100)
    part = np.tile([190.0, 150.0, 40.0, 50.0], (100, 1))
    whole = boxes_at(np.full(100, 200.0))
    for score in (0.8, 0.4):
        found = cover(together(sightings(frames, whole), sightings(frames, part, score, track=1)))
        assert found.num_seen.tolist() == [1] * 100
        assert not found.is_at_risk.any()


def test_a_jerk_is_covered_though_boxes_are_smoothed():
    frames = np.arange(100)
    boxes = boxes_at(np.where(frames // 5 % 2, 200.0, 260.0))
    (face,) = cover(sightings(frames, boxes)).faces
    inner = boxes + 1.01 * SLACK * boxes[:, 3:] * [1, 1, -2, -2]
    assert all(holds(box, found) for box, found in zip(face.boxes, inner, strict=True))


def test_a_short_gap_is_sure_and_a_long_one_a_risk():
    short, long = np.delete(np.arange(100), np.r_[40:44]), np.delete(np.arange(100), np.r_[40:60])
    found = cover(sightings(short, walking(short)))
    assert np.flatnonzero(found.is_held).tolist() == list(range(40, 44))
    assert not found.is_at_risk.any()
    assert np.flatnonzero(cover(sightings(long, walking(long))).is_at_risk).tolist() == list(range(40, 60))


def test_tracks_that_one_face_left_are_one_face():
    before, after = np.arange(0, 40), np.arange(70, 100)
    seen = together(sightings(before, walking(before)), sightings(after, walking(after), track=1))
    (face,) = cover(seen).faces
    assert face.rows.tolist() == list(range(70))
    elsewhere = boxes_at(np.full(30, 600.0))
    assert len(cover(together(sightings(before, walking(before)), sightings(after, elsewhere, track=1))).faces) == 2


def test_groups_hold_every_face_once_and_no_two_at_a_time():
    parts = [sightings(np.arange(a, b), boxes_at(np.full(b - a, x)), track=i)
             for i, (a, b, x) in enumerate([(0, 99, 100), (0, 20, 300), (5, 25, 500), (70, 90, 300)])]  # fmt: skip
    found = cover(together(*parts))
    groups = found.groups()
    assert len(groups) == 3
    assert sorted(id(face) for group in groups for face in group) == sorted(map(id, found.faces))
    assert len(groups[0]) == 1  # which is longest
    for group in groups:
        assert all(a.end <= b.first for a, b in itertools.pairwise(group))


def test_a_single_picture_and_an_empty_video():
    one = sightings(np.array([0]), walking(np.array([0])))
    found = cover_faces(np.zeros(1), np.zeros(1, int), one, SIZE, 0.5)
    assert found.num_seen.tolist() == [1]
    none = Sightings(np.empty(0, int), np.empty((0, 4)), np.empty(0), np.empty(0, int))
    assert (cover(none).groups(), cover(none).is_at_risk.any()) == ([], False)


def test_spans_reach_to_the_next_frame():
    assert spans(np.array([True, True, False, True]), np.array([0.0, 0.1, 0.3, 0.4])) == [(0.0, 0.3), (0.4, 0.5)]
    assert spans(np.array([True]), np.array([2.0])) == [(2.0, 2.0)]
