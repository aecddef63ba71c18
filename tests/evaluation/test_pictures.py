from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from fcvideo.errors import InputError
from fcvideo.evaluation.pictures import FaceCrops, Pictures, WithMirrored
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from tests.evaluation.datasets import jpeg


def test_pictures_of_every_kind_are_upright_rgb(tmp_path: Path) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # must be turned by 90 degrees
    Image.new("L", (8, 4)).save(turned, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(jpeg(9))
    sources = [turned.getvalue(), tmp_path / "a.jpg", np.zeros((5, 7), np.uint8), np.zeros((5, 7, 3), np.uint8)]
    pictures = Pictures(list("abcd"), sources)
    assert [pictures.image(i).size for i in range(4)] == [(4, 8), (16, 16), (7, 5), (7, 5)]
    assert {pictures.image(i).mode for i in range(4)} == {"RGB"}
    assert pictures.subset([1, 0]).names == ["b", "a"]


@pytest.mark.parametrize("source", [b"no picture", jpeg(0, 64)[:-300], Path("nowhere.jpg")])
def test_a_damaged_picture_is_named(source: bytes | Path) -> None:
    with pytest.raises(InputError, match=r"^mine\.jpg: not a picture that can be read"):
        Pictures(["mine.jpg"], [source]).image(0)


def test_ready_crops_pass_as_they_are() -> None:
    crops = FaceCrops(Pictures(["a"], [np.zeros((48, 40), np.uint8)]), Framing())
    assert crops.image(0).size == (40, 48)


def test_the_central_face_is_cropped_by_the_models_framing() -> None:
    """Of two equal faces, the nearer to the centre."""
    face = skimage.data.astronaut()[:256, 96:352]
    wide = np.full((420, 900, 3), 90, np.uint8)
    wide[100:356, 330:586] = face
    wide[100:356, 20:276] = face
    framing = Framing(1.1, (0.5, 0.45))
    found = FaceCrops(Pictures(["wide"], [wide], are_crops=False), framing, side_px=64)
    boxes = FaceDetector(score_threshold=0.3)([wide])[0].boxes
    box = boxes[np.argmax(boxes[:, 0])]
    expected = crop_face(wide, crop_affine(box, 64, framing), 64)
    np.testing.assert_array_equal(np.asarray(found.image(0)), expected)
    assert found.without_face == set()


def test_without_a_face_the_centre_is_taken_and_counted() -> None:
    picture = np.zeros((60, 200, 3), np.uint8)
    picture[:, 70:130] = 200
    found = FaceCrops(Pictures(["a"], [picture], are_crops=False), Framing(), side_px=32)
    assert np.asarray(found.image(0)).min() > 150
    assert found.without_face == {0}


def test_wide_crops_are_cut_to_the_framing_and_the_face_stays_in_its_place() -> None:
    pixels = np.zeros((96, 96, 3), np.uint8)
    pixels[36:41, 46:51] = 255  # at (0.50, 0.40), where the framing has the box's centre
    wide = Pictures(["a"], [pixels])
    cut = np.asarray(FaceCrops(wide, Framing(1.16, (0.50, 0.40)), crop_factor=1.45).image(0).convert("L"))
    assert cut.shape == (77, 77)
    rows, columns = (np.average(np.arange(77), weights=cut.sum(axis).astype(float)) / 77 for axis in (1, 0))
    assert abs(rows - 0.40) < 0.01
    assert abs(columns - 0.50) < 0.01
    assert FaceCrops(wide, Framing(1.16, (0.50, 0.40))).image(0).size == (96, 96)
    assert FaceCrops(wide, Framing(1.5, (0.50, 0.40)), crop_factor=1.45).image(0).size == (96, 96)


def test_mirrored_pictures_stand_behind_the_others() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 0] = 255
    both = WithMirrored(FaceCrops(Pictures(["a"], [pixels]), Framing(1.25, (0.5, 0.4))))
    assert len(both) == 2
    assert np.array_equal(np.asarray(both.image(1)), np.asarray(both.image(0))[:, ::-1])
