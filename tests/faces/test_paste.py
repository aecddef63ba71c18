from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.faces.paste import match_color, paste_face, soft_mask, square_mask

FRAMING = Framing(side_factor=1.25)
BOX = np.array([110.3, 60.7, 70.0, 90.0])  # its square is 112.5 px


def smooth_picture(height: int = 240, width: int = 320, phase: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width] / 40
    planes = [np.sin(x + y + phase), np.cos(1.3 * x - y - phase), np.sin(0.7 * x + phase) * np.cos(y)]
    return (127.5 + 100 * np.stack(planes, axis=-1)).astype(np.uint8)


def turned(affine: np.ndarray, degrees: float, side_px: int) -> np.ndarray:
    """The affine of a square turned about its centre."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn, middle = np.array([[cosine, -sine], [sine, cosine]]), np.full(2, side_px / 2)
    return np.concatenate([turn @ affine[:, :2], (turn @ (affine[:, 2] - middle) + middle)[:, None]], axis=1)


def coordinates(affine: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 2): where the pixels' centres lie in the crop."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return np.stack([x, y, np.ones_like(x)], axis=-1) @ affine.T


# the mask


@pytest.mark.parametrize("side_px", [64, 96, 256, 512])
@pytest.mark.parametrize("framing", [FRAMING, Framing(), Framing(side_factor=1.9, center=(0.5, 0.5))])
def test_the_mask_holds_the_face_and_ends_before_the_border(side_px: int, framing: Framing) -> None:
    mask = soft_mask(side_px, framing)
    assert mask.shape == (side_px, side_px)
    assert mask.dtype == np.float32
    for border in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert (border == 0).all()
    # Eyes, nose and mouth of YuNet's average face, in box heights from the box's centre.
    for x, y in [(-0.18, -0.1), (0.18, -0.1), (0.0, 0.08), (-0.12, 0.27), (0.12, 0.27)]:
        column, row = ((np.array([x, y]) / framing.side_factor + framing.center) * side_px).astype(int)
        assert mask[row, column] > 0.85
    np.testing.assert_allclose(mask, mask[:, ::-1], atol=1e-6)
    assert np.abs(np.diff(mask, axis=0)).max() * side_px < 16  # no edge


def test_the_square_mask_is_whole_but_for_the_border() -> None:
    mask = square_mask(256)
    for border in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert (border == 0).all()
    assert (mask[20:-20, 20:-20] == 1).all()
    assert (mask >= soft_mask(256)).all()


def test_masks_of_two_sizes_are_one_shape() -> None:
    small = soft_mask(512).reshape(64, 8, 64, 8).mean(axis=(1, 3))
    np.testing.assert_allclose(soft_mask(64), small, atol=0.05)


# pasting


@pytest.mark.parametrize("side_px", [64, 113, 256, 512])
@pytest.mark.parametrize("degrees", [0.0, 20.0, -135.0])
def test_a_pasted_face_lies_where_its_pixels_say(side_px: int, degrees: float) -> None:
    """A face whose colours are its coordinates."""
    affine = turned(crop_affine(BOX, side_px, FRAMING), degrees, side_px)
    at = (np.arange(side_px, dtype=np.float32) + 0.5) / side_px
    face = np.stack([*np.meshgrid(at, at), np.full((side_px, side_px), 0.5, np.float32)], axis=-1) * 255
    pasted = paste_face(np.zeros((240, 320, 3), np.uint8), face, affine, mask=np.ones((side_px, side_px), np.float32))
    place = coordinates(affine, 240, 320) / side_px
    inside = ((place > 0.03) & (place < 0.97)).all(axis=-1)
    off = pasted[inside][:, :2] / 255 - place[inside]
    assert np.abs(off).max() < 0.006
    assert np.abs(off.mean(axis=0)).max() < 0.0005  # no shift


@pytest.mark.parametrize("side_px", [64, 256])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_crop_pasted_back_leaves_the_picture(side_px: int, dtype: type) -> None:
    picture = smooth_picture()
    affine = crop_affine(BOX, side_px, FRAMING)
    pasted = paste_face(picture, crop_face(picture, affine, side_px).astype(dtype), affine)
    assert np.abs(pasted.astype(int) - picture).max() <= 4
    assert np.abs(pasted.astype(int) - picture).mean() < 0.1


@pytest.mark.parametrize("side_px", [64, 256])
def test_a_face_pasted_and_cut_out_again_is_the_face_within_the_mask(side_px: int) -> None:
    picture, other = smooth_picture(), smooth_picture(phase=2.0)
    affine = crop_affine(BOX, side_px, FRAMING)
    face = crop_face(other, affine, side_px)
    again = crop_face(paste_face(picture, face, affine), affine, side_px)
    mask = soft_mask(side_px)
    assert np.abs(again.astype(int) - face)[mask > 0.999].max() <= 5
    untouched = crop_face(picture, affine, side_px)
    assert np.abs(again.astype(int) - untouched)[mask == 0].max() <= 5


@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_outside_the_square_every_byte_stays(degrees: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    affine = turned(crop_affine(BOX, 96, FRAMING), degrees, 96)
    before = picture.copy()
    for mask in (None, np.ones((96, 96), np.float32)):
        pasted = paste_face(picture, np.full((96, 96, 3), 255, np.uint8), affine, mask=mask)
        place = coordinates(affine, 240, 320)
        outside = ((place < 0) | (place > 96)).any(axis=-1)
        np.testing.assert_array_equal(pasted[outside], picture[outside])
        assert (pasted[~outside] != picture[~outside]).any()
        np.testing.assert_array_equal(picture, before)


def test_strength_goes_from_the_picture_to_the_face_and_zero_is_the_picture() -> None:
    picture, affine = smooth_picture(), crop_affine(BOX, 96, FRAMING)
    face = crop_face(smooth_picture(phase=2.0), affine, 96)
    none, half, full = (paste_face(picture, face, affine, strength) for strength in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(none, picture)
    np.testing.assert_allclose(half.astype(int), (picture.astype(int) + full) / 2, atol=1)


@pytest.mark.parametrize("corner", [(-60.0, -50.0), (280.0, 190.0), (-60.0, 190.0), (120.0, -45.0)])
def test_a_face_over_the_border_is_cut_off_there(corner: tuple[float, float]) -> None:
    """As if the picture were larger and its margin were then cut off."""
    picture = smooth_picture()
    affine = crop_affine(np.array([*corner, 70.0, 90.0]), 96, FRAMING)
    face = crop_face(smooth_picture(phase=2.0), affine, 96)
    margin = np.array([[0, 0, -100], [0, 0, -100]]) * affine[0, 0] + affine
    wide = paste_face(np.pad(picture, ((100, 100), (100, 100), (0, 0))), face, margin)
    pasted = paste_face(picture, face, affine)
    assert np.abs(pasted.astype(int) - wide[100:-100, 100:-100]).max() <= 1
    assert (pasted != picture).any()


@pytest.mark.parametrize("corner", [(-300.0, 50.0), (100.0, 900.0), (1e6, 1e6)])
def test_a_face_beyond_the_border_changes_nothing(corner: tuple[float, float]) -> None:
    picture = smooth_picture()
    affine = crop_affine(np.array([*corner, 70.0, 90.0]), 96, FRAMING)
    np.testing.assert_array_equal(paste_face(picture, np.zeros((96, 96, 3), np.uint8), affine), picture)


def test_a_large_face_is_averaged_and_not_sampled() -> None:
    """Noise of 512 px in a square of 60 px is gray."""
    face = np.random.default_rng(0).choice([0, 255], (512, 512, 1)).repeat(3, axis=2).astype(np.uint8)
    affine = crop_affine(np.array([100.0, 80.0, 40.0, 48.0]), 512, FRAMING)
    pasted = paste_face(np.full((240, 320, 3), 128, np.uint8), face, affine)
    assert 0 < pasted.std() < 8


# colour


def tinted(picture: np.ndarray, gain: tuple[float, ...], offset: tuple[float, ...]) -> np.ndarray:
    return (picture.astype(np.float32) * np.float32(gain) + np.float32(offset)).clip(0, 255)


def test_another_exposure_and_tint_is_taken_back() -> None:
    original = crop_face(smooth_picture(), crop_affine(BOX, 256, FRAMING), 256)
    face = tinted(original, (0.8, 0.8, 0.8), (20, 0, -10))
    mask = soft_mask(256)
    matched = match_color(face, original, mask)
    assert matched.dtype == np.float32
    assert np.abs(matched - original)[mask > 0].mean() < 3
    assert np.abs(face - original)[mask > 0].mean() > 15


def test_what_already_matches_stays_and_so_does_its_type() -> None:
    face = crop_face(smooth_picture(), crop_affine(BOX, 128, FRAMING), 128)
    matched = match_color(face, face, soft_mask(128))
    assert matched.dtype == np.uint8
    assert np.abs(matched.astype(int) - face).max() <= 1


def test_only_what_the_mask_holds_counts() -> None:
    face = crop_face(smooth_picture(), crop_affine(BOX, 128, FRAMING), 128)
    mask = soft_mask(128)
    original = np.where(mask[..., None] > 0, face, np.uint8(255))
    assert np.abs(match_color(face, original, mask).astype(int) - face).max() <= 1


@pytest.mark.parametrize("level", [0, 12, 128, 255])
def test_a_flat_original_gives_its_color_and_no_noise(level: int) -> None:
    rng = np.random.default_rng(0)
    face = crop_face(smooth_picture(), crop_affine(BOX, 128, FRAMING), 128)
    original = (level + rng.normal(0, 1, face.shape)).clip(0, 255).astype(np.uint8)
    mask = soft_mask(128)
    matched = match_color(face, original, mask)
    assert abs(matched[mask > 0.5].mean() - level) < 2
    flat_face = (100 + rng.normal(0, 0.5, face.shape)).astype(np.uint8)
    matched = match_color(flat_face, face, mask)
    assert matched.std(axis=(0, 1)).max() < 3  # its noise is not blown up to the original's contrast


def test_a_gray_original_takes_the_color_out() -> None:
    face = crop_face(smooth_picture(), crop_affine(BOX, 128, FRAMING), 128)
    gray = face.mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
    matched = match_color(face, gray, soft_mask(128)).astype(int)
    assert np.abs(matched.max(axis=2) - matched.min(axis=2)).mean() < 5


# a real face


@pytest.mark.parametrize("side_px", [64, 256, 512])
def test_a_real_face_pasted_back_cannot_be_told(media: Path, side_px: int) -> None:
    with av.open(str(media / "lp_s29.mp4")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    box = FaceDetector()([picture])[0].boxes[0]
    affine = crop_affine(box, side_px, FRAMING)
    face = crop_face(picture, affine, side_px)
    tint = tinted(face, (0.7, 0.9, 1.1), (30, 0, 0))
    pasted = paste_face(picture, match_color(tint, face, soft_mask(side_px)), affine)
    close = crop_affine(box, 64, FRAMING)
    before, after = (crop_face(p, close, 64).astype(int) for p in (picture, pasted))
    assert np.abs(after - before).mean() < 1
    assert np.abs(crop_face(paste_face(picture, tint, affine), close, 64) - before).mean() > 4
