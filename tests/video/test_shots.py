from __future__ import annotations

import numpy as np
import pytest

from fcvideo.video.shots import SIGNATURE_BYTES, CutFinder, signature


def scene(seed: int, shift: int = 0) -> np.ndarray:
    """A picture of smooth blobs in colours of its own, moved to the right."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (5, 8, 3)) // 2 + rng.integers(0, 128, 3)
    picture = np.kron(coarse, np.ones((24, 24, 1))).astype(np.uint8)
    return np.roll(picture, shift, axis=1)


def cuts(frames: list[np.ndarray], portions: int = 1) -> list[int]:
    finder = CutFinder()
    for part in np.array_split(np.stack([signature(frame) for frame in frames]), portions):
        finder.add(part)
    return finder.cuts().tolist()


THREE_SHOTS = [scene(1, i) for i in range(20)] + [scene(2, -2 * i) for i in range(15)] + [scene(3) for _ in range(10)]


@pytest.mark.parametrize("portions", [1, 7, 45])
def test_cuts_are_found_however_the_frames_come(portions: int):
    assert cuts(THREE_SHOTS, portions) == [20, 35]


def test_motion_and_flashes_are_no_cuts():
    assert cuts([scene(1, 6 * i) for i in range(30)]) == []
    flash = [scene(1, i) for i in range(30)]
    flash[12] = np.full_like(flash[12], 250)
    assert cuts(flash) == []


def test_a_thing_that_appears_is_no_cut():
    appears = [scene(1)] * 20
    appears[10:] = [np.where(np.arange(192)[:, None] < 70, 240, scene(1)).astype(np.uint8)] * 10
    assert cuts(appears) == []


def test_pictures_of_another_size_are_another_shot():
    assert cuts([scene(1)] * 5 + [scene(1)[::2, ::2]] * 5) == [5]


def test_a_picture_that_is_half_of_both_shots_is_the_first_ones():
    mixed = [scene(1)] * 10 + [(scene(1) // 2 + scene(2) // 2).astype(np.uint8)] + [scene(2)] * 10
    assert cuts(mixed) == [11]


def test_a_cut_in_the_dark_is_found():
    dark = [frame // 6 for frame in THREE_SHOTS]
    assert cuts([np.maximum(frame, 4) for frame in dark]) == [20, 35]


def test_few_frames_and_small_pictures_have_signatures():
    assert cuts([scene(1)]) == []
    assert CutFinder().cuts().tolist() == []
    assert signature(np.zeros((1, 3, 3), np.uint8)).shape == (SIGNATURE_BYTES,)
    assert cuts([scene(1), scene(2)]) == [1]
