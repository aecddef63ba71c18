from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcvideo.errors import InputError
from fcvideo.faces.fit import Choice
from fcvideo.rendering.portrait import PortraitPainter, motion_size
from fcvideo.rendering.target import TargetFinder
from fcvideo.video.inputs import Source
from tests.rendering.conftest import EXAMPLE, FaceClip


@pytest.fixture(scope="module")
def finder(painter: PortraitPainter) -> TargetFinder:
    return TargetFinder(painter)


def source(path: Path) -> Source:
    return Source(str(path), path.name)


def test_an_image_gives_its_largest_face(finder: TargetFinder, astronaut: FaceClip, tmp_path: Path):
    image, small = astronaut.images[0], np.asarray(Image.fromarray(astronaut.images[0]).resize((160, 160)))
    both = np.zeros((image.shape[0], image.shape[1] + 160, 3), np.uint8)
    both[:160, :160], both[:, 160:] = small, image
    Image.fromarray(both).save(tmp_path / "two.png")
    found = finder.find(source(tmp_path / "two.png"))
    assert found.pts_seconds is None
    assert np.array_equal(found.picture, both)
    assert found.box[:2] == pytest.approx(astronaut.boxes[0, :2] + [160, 0], abs=8)


def test_a_video_gives_its_most_frontal_frame(finder: TargetFinder, painter: PortraitPainter, media: Path):
    found = finder.find(source(media / "franck.mp4"))
    at = finder.find(source(media / "franck.mp4"), Choice(time_seconds=6.0))
    sizes = [
        motion_size(painter.motion(painter.codes(painter.look(finder._crop(t.picture, t.box)[None])))).item()
        for t in (found, at)
    ]
    assert sizes[0] < sizes[1]


def test_a_given_time_is_the_frame_on_the_screen_then(finder: TargetFinder, astronaut: FaceClip):
    found = finder.find(source(EXAMPLE), Choice(time_seconds=0.5))
    assert found.pts_seconds == pytest.approx(0.48)
    assert np.abs(found.picture.astype(int) - astronaut.images[1]).mean() < 1


def test_what_shows_no_face_is_refused_in_one_line(finder: TargetFinder, tmp_path: Path, media: Path):
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(tmp_path / "black.png")
    (tmp_path / "text.jpg").write_text("no picture")
    for path in (tmp_path / "black.png", tmp_path / "text.jpg", media / "hostile" / "zero_bytes.mp4"):
        with pytest.raises(InputError, match=path.name) as error:
            finder.find(source(path))
        assert "\n" not in str(error.value)


def spoiled(tmp_path: Path, clip: FaceClip, change) -> Path:
    Image.fromarray(change(Image.fromarray(clip.images[0]))).save(tmp_path / "spoiled.png")
    return tmp_path / "spoiled.png"


def lying(image: Image.Image) -> np.ndarray:
    return np.asarray(image.rotate(90))


def tiny(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((image.width // 6, image.height // 6)))


@pytest.mark.parametrize("change", [lying, tiny])
def test_a_face_that_cannot_be_driven_well_is_refused_unless_forced(change, finder, astronaut, tmp_path: Path):
    path = spoiled(tmp_path, astronaut, change)
    with pytest.raises(InputError, match=r"spoiled.png: found .*face.*, expected .*") as error:
        finder.find(source(path))
    assert "\n" not in str(error.value)
    if "found no face," not in str(error.value):
        assert "--force" in str(error.value)
        assert finder.find(source(path), Choice(is_forced=True)).box[3] > 0


def test_of_several_faces_one_is_chosen_by_number_or_point_or_told(finder: TargetFinder, astronaut: FaceClip, tmp_path):
    image = astronaut.images[0]
    small = np.asarray(Image.fromarray(image).resize((image.shape[1] * 3 // 4, image.shape[0] * 3 // 4)))
    both = np.zeros((image.shape[0], image.shape[1] + small.shape[1], 3), np.uint8)
    both[: small.shape[0], : small.shape[1]], both[:, small.shape[1] :] = small, image
    Image.fromarray(both).save(tmp_path / "two.png")
    two = source(tmp_path / "two.png")
    largest = finder.find(two)
    assert largest.note is not None
    assert "largest of 2 faces" in largest.note
    other = finder.find(two, Choice(face=1))
    assert other.note is None
    assert other.box[3] < largest.box[3]
    middle = tuple((other.box[:2] + other.box[2:] / 2).tolist())
    np.testing.assert_array_equal(finder.find(two, Choice(at=middle)).box, other.box)
    with pytest.raises(InputError, match="--target-face 2: found faces 0 to 1"):
        finder.find(two, Choice(face=2))
