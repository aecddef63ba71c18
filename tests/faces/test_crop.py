from __future__ import annotations

import numpy as np
import pytest

from fcvideo.faces.crop import Framing, crop_affine, crop_face


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth colours, so that filters of the same width agree."""
    y, x = np.mgrid[0:240, 0:320] / 40
    planes = [np.sin(x + y), np.cos(1.3 * x - y), np.sin(0.7 * x) * np.cos(y)]
    return (127.5 + 120 * np.stack(planes, axis=-1)).astype(np.uint8)


def square(left: float, top: float, side: float, side_px: int) -> np.ndarray:
    scale = side_px / side
    return np.array([[scale, 0.0, -scale * left], [0.0, scale, -scale * top]])


def area_average(image: np.ndarray, left: float, top: float, side: float, side_px: int) -> np.ndarray:
    """Every pixel of the crop the mean of `image` over its area, by 16 x 16 samples; the border repeats."""
    samples = (np.arange(side_px * 16) + 0.5) * side / side_px / 16
    rows = np.floor(top + samples).astype(int).clip(0, image.shape[0] - 1)
    columns = np.floor(left + samples).astype(int).clip(0, image.shape[1] - 1)
    values = image[rows][:, columns].astype(np.float64)
    return values.reshape(side_px, 16, side_px, 16, 3).mean(axis=(1, 3))


def test_a_square_of_the_crops_own_size_is_copied(picture: np.ndarray) -> None:
    crop = crop_face(picture, square(40, 30, 64, 64), 64)
    np.testing.assert_array_equal(crop, picture[30:94, 40:104])


@pytest.mark.parametrize("side", [64.5, 100.3, 130.0, 200.7])
def test_shrinking_averages_the_area(picture: np.ndarray, side: float) -> None:
    crop = crop_face(picture, square(20.3, 10.8, side, 64), 64)
    assert np.abs(crop - area_average(picture, 20.3, 10.8, side, 64)).max() < 4


def test_noise_is_averaged_away_and_not_sampled() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    crop = crop_face(noise, square(10.5, 11.5, 1100, 64), 64)
    assert crop.std() < 1.3 * area_average(noise, 10.5, 11.5, 1100, 64).std()


@pytest.mark.parametrize(("left", "top", "side"), [(-50, -40, 150), (250, 180, 150), (-60, -100, 440), (-700, 5, 1600)])
def test_what_lies_outside_repeats_the_border(picture: np.ndarray, left: float, top: float, side: float) -> None:
    crop = crop_face(picture, square(left, top, side, 64), 64)
    difference = np.abs(crop - area_average(picture, left, top, side, 64))
    assert difference.mean() < 2
    assert np.percentile(difference, 99) < 16  # the border itself falls between two pixels of the crop


def test_a_square_wholly_outside_is_the_nearest_border(picture: np.ndarray) -> None:
    crop = crop_face(picture, square(400, 300, 64, 64), 64)
    assert (crop == picture[-1, -1]).all()


def test_the_box_lies_in_the_crop_where_the_framing_says() -> None:
    box = np.array([100.0, 50.0, 40.0, 60.0])
    affine = crop_affine(box, 64, Framing(side_factor=1.45, center=(0.5, 0.4)))
    center = affine @ [120.0, 80.0, 1.0]
    np.testing.assert_allclose(center, [32.0, 25.6])
    top, bottom = (affine @ [120.0, y, 1.0] for y in (50.0, 110.0))
    np.testing.assert_allclose(bottom[1] - top[1], 64 / 1.45)


def test_the_affine_inverts_to_where_the_pixels_came_from() -> None:
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[90:94, 140:144] = 255
    affine = crop_affine(np.array([110.0, 60.0, 50.0, 64.0]), 96, Framing())
    rows, columns = np.nonzero(crop_face(picture, affine, 96)[..., 0] > 127)
    in_crop = np.array([columns.mean() + 0.5, rows.mean() + 0.5, 1.0])
    inverse = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))
    np.testing.assert_allclose((inverse @ in_crop)[:2], [142.0, 92.0], atol=0.5)


def test_a_shift_by_a_part_of_a_pixel_shifts_the_crop() -> None:
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    crops = [crop_face(ramp, square(50 + shift, 20, 32, 64), 64).astype(int) for shift in (0.0, 1.0)]
    assert (crops[1] - crops[0] == 1).mean() > 0.95


@pytest.mark.parametrize("height", [60.0, 100.0, 170.0])  # the square is enlarged to 512, shrunk to 64
def test_a_large_and_a_small_crop_of_a_box_lie_on_each_other(picture: np.ndarray, height: float) -> None:
    box = np.array([60.3, 30.6, 0.8 * height, height])
    large, small = (crop_face(picture, crop_affine(box, side, Framing(1.25)), side).astype(float) for side in (512, 64))
    difference = small - large.reshape(64, 8, 64, 8, 3).mean(axis=(1, 3))
    assert np.abs(difference).mean() < 1
    assert np.percentile(np.abs(difference), 99) < 4
    slope = np.gradient(small[..., 0])
    shift = np.linalg.lstsq(np.stack(slope, axis=-1).reshape(-1, 2), difference[..., 0].ravel(), rcond=None)[0]
    assert np.abs(shift).max() < 0.02  # pixels of the small one
