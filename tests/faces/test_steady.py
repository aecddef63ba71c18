from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from fcvideo.errors import InputError
from fcvideo.faces.detect import FaceDetector
from fcvideo.faces.smoothing import SMOOTH_SECONDS
from fcvideo.faces.steady import (
    BRIDGE_SECONDS,
    FADE_SECONDS,
    SteadyFace,
    choose_face,
    smooth_codes,
    steady_face,
)

RATE = 30.0


def boxes_at(x: np.ndarray, y: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(N, 4) around centres x, y, 0.8 as wide as high."""
    x, y, height = np.broadcast_arrays(x, y, height)
    return np.stack([x - 0.4 * height, y - height / 2, 0.8 * height, height], axis=1).astype(np.float64)


def centers(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, :2] + boxes[:, 2:] / 2


def steady(boxes: np.ndarray, times: np.ndarray, smooth_seconds: float = SMOOTH_SECONDS) -> SteadyFace:
    """One track that is seen in every frame."""
    return steady_face(times, np.arange(len(times)), boxes, np.zeros(len(times), int), smooth_seconds)


def seen_only(times: np.ndarray, seen: np.ndarray, tracks: np.ndarray | None = None) -> SteadyFace:
    """A head that moves evenly, seen in some frames."""
    rows = np.flatnonzero(seen)
    tracks = np.zeros(len(times), int) if tracks is None else tracks
    boxes = boxes_at(300 + 50 * times, 200 - 20 * times, 100 * np.exp(0.1 * times))
    return steady_face(times, rows, boxes[rows], tracks[rows])


@pytest.fixture
def varying() -> np.ndarray:
    """Times of a variable rate, 8 to 60 frames a second."""
    return np.cumsum(np.random.default_rng(0).uniform(1 / 60, 1 / 8, 200))


# choose_face


def three_tracks() -> dict[str, np.ndarray]:
    """A shot of a large (0) and a small face (1), a cut, the same again (2, 3), and a flash (4) between."""
    rows = []
    for frame in range(100):
        if frame < 50:
            rows += [(frame, 0, 100, 100, 120), (frame, 1, 400, 100, 60)]
        elif frame >= 55:
            rows += [(frame, 2, 200, 120, 90), (frame, 3, 500, 90, 80)]
        elif frame == 52:
            rows += [(frame, 4, 10, 10, 40)]
    frame, track, x, y, height = np.array(rows, float).T
    order = np.random.default_rng(0).permutation(len(frame))
    rows = {"frame_index": frame.astype(int), "pts_seconds": frame / 25, "boxes": boxes_at(x, y, height)}
    return {name: values[order] for name, values in rows.items()} | {"track_ids": track.astype(int)[order]}


def tracks_of(rows: dict[str, np.ndarray], chosen: np.ndarray) -> list[int]:
    return list(dict.fromkeys(rows["track_ids"][chosen].tolist()))


def test_the_main_face_is_the_largest_of_each_shot_and_a_flash_is_none() -> None:
    rows = three_tracks()
    chosen = choose_face(**rows)
    assert tracks_of(rows, chosen) == [0, 2]
    assert rows["frame_index"][chosen].tolist() == [*range(50), *range(55, 100)]


def test_a_small_face_that_stays_outweighs_a_large_one_that_passes() -> None:
    frames = np.r_[np.arange(100), np.arange(40, 50)]
    boxes = boxes_at(
        np.r_[np.full(100, 100), np.full(10, 300)], np.array(100), np.r_[np.full(100, 60), np.full(10, 120)]
    )
    chosen = choose_face(frames, frames / 25, boxes, np.r_[np.zeros(100, int), np.ones(10, int)])
    np.testing.assert_array_equal(chosen, np.arange(100))


def test_time_counts_not_frames() -> None:
    """Forty frames within a second beside thirty over three."""
    times = np.r_[np.arange(40) / 40, 1 + np.arange(30) / 10]
    tracks = (np.arange(70) >= 40).astype(int)
    chosen = choose_face(np.arange(70), times, boxes_at(times * 0, times * 0, np.array(100)), tracks)
    assert len(chosen) == 70
    overlapping = np.r_[times, times[40]]  # the first is seen once more in the second's first frame
    frames, tracks = np.r_[np.arange(70), 40], np.r_[tracks, 0]
    chosen = choose_face(frames, overlapping, boxes_at(overlapping * 0, overlapping * 0, np.array(100)), tracks)
    assert set(tracks[chosen]) == {1}


def test_a_track_is_chosen_by_its_number_or_by_a_point() -> None:
    rows = three_tracks()
    assert tracks_of(rows, choose_face(**rows, face=3)) == [3]
    assert tracks_of(rows, choose_face(**rows, at=(405, 95))) == [1]
    assert tracks_of(rows, choose_face(**rows, at=(700, 95))) == [3]  # in none: the nearest
    assert tracks_of(rows, choose_face(**rows, at=(165, 120))) == [2]


def test_of_two_that_hold_the_point_the_earlier_is_meant() -> None:
    rows = three_tracks()
    assert tracks_of(rows, choose_face(**rows, at=(145, 125))) == [0]


def test_a_face_that_is_not_there_is_named_with_those_that_are() -> None:
    rows = three_tracks()
    with pytest.raises(InputError, match=r"^--face 7: found tracks 0 to 4$"):
        choose_face(**rows, face=7)
    one = {name: values[rows["track_ids"] == 0] for name, values in rows.items()}
    with pytest.raises(InputError, match=r"^--face 7: found track 0 alone$"):
        choose_face(**one, face=7)
    none = {name: values[:0] for name, values in rows.items()}
    assert len(choose_face(**none)) == 0
    with pytest.raises(InputError, match=r"^--face 0: found no faces$"):
        choose_face(**none, face=0)
    with pytest.raises(InputError, match=r"^--at 3,4.5: found no faces$"):
        choose_face(**none, at=(3, 4.5))
    with pytest.raises(InputError, match="expected one"):
        choose_face(**rows, face=0, at=(1, 1))


def test_a_single_picture_has_a_main_face() -> None:
    chosen = choose_face(np.zeros(2, int), np.zeros(2), np.array([[0, 0, 9, 9], [20, 0, 30, 30]]), np.arange(2))
    assert chosen.tolist() == [1]


# smoothing


def test_even_motion_and_growth_stay_exact_at_a_variable_rate(varying: np.ndarray) -> None:
    boxes = boxes_at(100 + 200 * varying, 300 - 90 * varying, 80 * np.exp(0.05 * varying))
    np.testing.assert_allclose(steady(boxes, varying).boxes, boxes, atol=1e-4)


def test_even_acceleration_stays_exact_to_both_ends() -> None:
    times = np.arange(60) / RATE
    boxes = boxes_at(100 + 80 * times**2, 300 - 60 * times**2, np.array(100))
    np.testing.assert_allclose(steady(boxes, times).boxes, boxes, atol=1e-4)


def test_a_still_heads_jitter_is_a_fifteenth() -> None:
    times = np.arange(300) / RATE
    noise = np.random.default_rng(0).normal(0, 1, (300, 3))
    boxes = boxes_at(200 + noise[:, 0], 150 + noise[:, 1], 100 + noise[:, 2])
    before, after = (np.diff(centers(b), axis=0).std(axis=0) for b in (boxes, steady(boxes, times).boxes))
    assert (after < before / 15).all()


@pytest.mark.parametrize(("swing", "hertz", "limit"), [(0.5, 0.5, 0.01), (0.3, 1.0, 0.015), (0.1, 2.0, 0.02)])
def test_a_swinging_head_is_followed_without_lag_or_cut_corners(swing: float, hertz: float, limit: float) -> None:
    times = np.arange(120) / RATE
    boxes = boxes_at(500 + 100 * swing * np.sin(2 * np.pi * hertz * times), np.array(150.0), np.array(100.0))
    off = centers(steady(boxes, times).boxes)[:, 0] - centers(boxes)[:, 0]
    assert np.abs(off).max() < limit * 100
    assert abs(off.mean()) < 0.002 * 100


def test_time_runs_alike_in_both_directions(varying: np.ndarray) -> None:
    boxes = boxes_at(*np.random.default_rng(1).normal([[200], [150], [100]], 3, (3, 200)))
    forwards = steady(boxes, varying).boxes
    backwards = steady(boxes[::-1], varying[-1] - varying[::-1]).boxes[::-1]
    np.testing.assert_allclose(forwards, backwards, atol=1e-9)


@pytest.mark.parametrize("place", [0, 1, 30, 58, 59])
@pytest.mark.parametrize("speed", [0.0, 150.0])
def test_a_single_wrong_box_leaves_no_trace(place: int, speed: float) -> None:
    times = np.arange(60) / RATE
    truth = boxes_at(100 + speed * times, np.array(200.0), np.array(100.0))
    boxes = truth.copy()
    boxes[place] += [25, -10, 10, 30]
    np.testing.assert_allclose(steady(boxes, times).boxes, truth, atol=0.01)


def test_a_sudden_move_at_the_end_does_not_make_the_box_fly_off() -> None:
    """As in a real clip at 24 of 30 frames: three boxes jump, two of them the same."""
    times = np.arange(30) / RATE
    boxes = boxes_at(100 + 60 * times, np.array(200.0), np.array(100.0))
    boxes[-3:, 0] += [15, 50, 50]
    boxes[-3:, 3] += [10, 20, 20]
    smooth = steady(boxes, times).boxes
    assert np.abs(smooth - boxes).max() < 25


def test_no_smoothing_leaves_the_boxes_as_they_are(varying: np.ndarray) -> None:
    boxes = boxes_at(*np.random.default_rng(1).normal([[200], [150], [100]], 3, (3, 200)))
    np.testing.assert_allclose(steady(boxes, varying, 0).boxes, boxes, rtol=1e-12)


def test_nothing_is_smoothed_across_a_cut() -> None:
    times = np.arange(60) / RATE
    tracks = (np.arange(60) >= 30).astype(int)
    boxes = boxes_at(np.where(tracks, 500.0, 100.0), np.array(200.0), np.where(tracks, 60.0, 120.0))
    face = steady_face(times, np.arange(60), boxes, tracks)
    np.testing.assert_allclose(face.boxes, boxes, atol=1e-6)
    assert face.presence.tolist() == [1] * 60
    assert face.stretch.tolist() == tracks.tolist()


def test_far_frames_do_not_change_a_box() -> None:
    """So that a video's beginning is the same whatever follows."""
    times = np.arange(300) / RATE
    boxes = boxes_at(*np.random.default_rng(1).normal([[200], [150], [100]], 3, (3, 300)))
    whole, part = steady(boxes, times).boxes, steady(boxes[:150], times[:150]).boxes
    np.testing.assert_array_equal(whole[:120], part[:120])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_boxes_stay_as_they_are(count: int) -> None:
    boxes = boxes_at(np.arange(count) * 7.0 % 5, np.array(100.0), np.array(50.0))
    np.testing.assert_allclose(steady(boxes, np.arange(count) / RATE).boxes, boxes, atol=1e-3)


# gaps


def test_a_short_gap_is_bridged_on_the_way_between() -> None:
    times = np.arange(90) / RATE
    seen = (times < 1) | (times > 1 + BRIDGE_SECONDS - 2.5 / RATE)
    face = seen_only(times, seen)
    np.testing.assert_allclose(centers(face.boxes)[:, 0], 300 + 50 * times, atol=1e-3)
    assert (face.presence == 1).all()
    assert face.shown.tolist() == list(range(90))
    np.testing.assert_array_equal(face.is_seen, seen)
    assert (face.stretch == 0).all()


def test_in_a_long_gap_the_face_is_held_and_fades_out_and_back_in() -> None:
    times = np.arange(120) / RATE
    seen = (np.arange(120) < 30) | (np.arange(120) >= 90)
    face = seen_only(times, seen)
    returning = round(FADE_SECONDS * RATE) - 1  # frames before 90 in which it fades in
    assert face.shown[30 : 90 - returning].tolist() == [29] * (60 - returning)
    assert face.shown[90 - returning : 90].tolist() == [90] * returning
    np.testing.assert_allclose(face.boxes[30:80], face.boxes[[29] * 50])
    np.testing.assert_allclose(face.boxes[86:90], face.boxes[[90] * 4])
    gap = face.presence[29:91]
    np.testing.assert_allclose(gap, gap[::-1], atol=1e-6)
    assert (gap[10:-10] == 0).all()
    assert np.abs(np.diff(gap)).max() < 1.6 / (FADE_SECONDS * RATE)  # no faster than the middle of the ramp
    assert (face.stretch[30:90] == -1).all()
    assert face.stretch[29] != face.stretch[90]


def test_a_gap_just_too_long_to_bridge_fades_nearly_to_nothing() -> None:
    times = np.arange(0, 4, 0.01)
    face = seen_only(times, (times < 1) | (times > 1 + BRIDGE_SECONDS + 0.02))
    assert face.presence.min() < 0.01


def test_before_the_first_and_after_the_last_it_is_that_one() -> None:
    times = np.arange(90) / RATE
    face = seen_only(times, (np.arange(90) >= 30) & (np.arange(90) < 60))
    assert face.shown.tolist() == [30] * 30 + list(range(30, 60)) + [59] * 30
    np.testing.assert_allclose(face.presence, face.presence[::-1], atol=1e-6)
    assert face.presence[0] == 0
    assert 0.8 < face.presence[29] < 1


def test_at_a_cut_a_gap_is_not_bridged_however_short() -> None:
    times = np.arange(60) / RATE
    frames = np.arange(60)
    face = seen_only(times, (frames < 28) | (frames >= 32), tracks=(frames >= 30).astype(int))
    assert face.shown[28:32].tolist() == [27, 27, 32, 32]
    assert face.presence[28:32].min() > 0.5  # too short to fade far: it would flicker
    np.testing.assert_allclose(face.presence, face.presence[::-1], atol=1e-6)


def test_a_slide_show_has_no_gaps() -> None:
    face = steady(boxes_at(np.arange(5) * 50.0, np.array(100.0), np.array(90.0)), np.arange(5) * 4.0)
    assert face.shown.tolist() == [0, 1, 2, 3, 4]
    assert (face.presence == 1).all()


def test_a_video_without_the_face_shows_nothing() -> None:
    face = steady_face(np.arange(5) / RATE, np.empty(0, int), np.empty((0, 4)), np.empty(0, int))
    assert face.shown.tolist() == [-1] * 5
    assert face.presence.tolist() == [0] * 5
    assert np.isnan(face.boxes).all()


# codes


def test_codes_follow_even_change_and_lose_their_noise() -> None:
    times = np.arange(200) / RATE
    rng = np.random.default_rng(0)
    truth = np.outer(times, rng.normal(size=40))
    noisy = truth + rng.normal(0, 0.1, truth.shape)
    smooth = smooth_codes(noisy, times, np.ones(200, bool), 0.2)
    assert smooth.dtype == np.float32
    assert (smooth - truth)[20:-20].std() < 0.05
    np.testing.assert_allclose(smooth_codes(truth, times, np.ones(200, bool), 0.2), truth, atol=1e-4)


def test_codes_do_not_cross_a_stretch_and_frames_without_one_stay() -> None:
    times = np.arange(90) / RATE
    stretch = np.repeat([0, -1, 1], 30)
    codes = np.repeat([[0.0], [np.nan], [5.0]], 30, axis=0)
    smooth = smooth_codes(codes, times, stretch >= 0, 0.3, stretch)
    np.testing.assert_allclose(smooth, codes, atol=1e-5)


def test_missing_codes_of_a_stretch_are_those_between_their_neighbours() -> None:
    times = np.arange(60) / RATE
    truth = np.stack([3 * times, 1 - times], axis=1)
    valid = (np.arange(60) % 10 != 4) & (np.arange(60) != 0)
    codes = np.where(valid[:, None], truth, np.nan)
    for seconds in (0.0, 0.2):
        smooth = smooth_codes(codes, times, valid, seconds)
        np.testing.assert_allclose(smooth[1:], truth[1:], atol=1e-5)
    assert smooth_codes(codes, times, np.zeros(60, bool), 0.2).shape == (60, 2)


# real detections


def detections(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times and boxes of the largest face of every frame."""
    find, times, boxes = FaceDetector(), [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            times.append(frame.time)
            boxes.append(find([frame.to_ndarray(format="rgb24")])[0].boxes[0])
    return np.array(times), np.array(boxes)


def still_boxes(path: Path, num_frames: int = 60) -> np.ndarray:
    """Of one picture with other noise in every frame, of 3 of 255."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(np.float32)
    find, rng = FaceDetector(), np.random.default_rng(0)
    noisy = (picture + rng.normal(0, 3, picture.shape) for _ in range(num_frames))
    return np.array([find([p.round().clip(0, 255).astype(np.uint8)])[0].boxes[0] for p in noisy])


@pytest.mark.parametrize("name", ["lp_d12.mp4", "carphone.mp4"])
def test_a_still_pictures_boxes_come_to_rest(media: Path, name: str) -> None:
    boxes = still_boxes(media / name)
    smooth = steady(boxes, np.arange(len(boxes)) / RATE).boxes
    before, after = (np.diff(np.c_[centers(b), b[:, 3]], axis=0).std(axis=0) for b in (boxes, smooth))
    assert (after < before / 8).all()


@pytest.mark.parametrize("name", ["carphone.mp4", "pyfeat_single_face.mp4"])
def test_a_real_head_is_followed(media: Path, name: str) -> None:
    """Nearly as by a filter so narrow (0.06 s) that it keeps most of the detector's noise."""
    times, boxes = detections(media / name)
    face, close = steady(boxes, times), steady(boxes, times, 0.06)
    off = np.linalg.norm(centers(face.boxes) - centers(close.boxes), axis=1) / boxes[:, 3]
    assert np.percentile(off, 95) < 0.02
    shake_before, shake_after = (np.diff(centers(b), 2, axis=0).std() for b in (boxes, face.boxes))
    assert shake_after < shake_before / 5


def test_others_stand_in_while_the_main_person_is_away_and_nothing_is_smoothed_over_a_cut():
    """Shots of 0, 1 and 0 again, elsewhere: a track that goes on over cuts."""
    frame = np.arange(150)
    track, x = (frame // 50 == 1).astype(int), np.array([100.0, 300, 500])[frame // 50]
    boxes = boxes_at(x, np.full(150, 100.0), np.full(150, 100.0))
    assert choose_face(frame, frame / 25, boxes, track).tolist() == frame.tolist()
    away = np.flatnonzero(track == 0)
    assert choose_face(frame, frame / 25, boxes, track, face=0).tolist() == away.tolist()
    at_once = np.delete(frame, np.arange(50, 100))  # the cut lies between neighbouring frames
    face = steady_face(np.arange(100) / 25, np.arange(100), boxes[at_once], track[at_once])
    np.testing.assert_allclose(face.boxes, boxes[at_once], atol=1e-6)
