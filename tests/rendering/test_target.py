from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcvideo.errors import InputError
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
    at = finder.find(source(media / "franck.mp4"), time_seconds=6.0)
    sizes = [
        motion_size(painter.motion(painter.codes(painter.look(finder._crop(t.picture, t.box)[None])))).item()
        for t in (found, at)
    ]
    assert sizes[0] < sizes[1]


def test_a_given_time_is_the_frame_on_the_screen_then(finder: TargetFinder, astronaut: FaceClip):
    found = finder.find(source(EXAMPLE), time_seconds=0.5)
    assert found.pts_seconds == pytest.approx(0.48)
    assert np.abs(found.picture.astype(int) - astronaut.images[1]).mean() < 1


def test_what_shows_no_face_is_refused_in_one_line(finder: TargetFinder, tmp_path: Path, media: Path):
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(tmp_path / "black.png")
    (tmp_path / "text.jpg").write_text("no picture")
    for path in (tmp_path / "black.png", tmp_path / "text.jpg", media / "hostile" / "zero_bytes.mp4"):
        with pytest.raises(InputError, match=path.name) as error:
            finder.find(source(path))
        assert "\n" not in str(error.value)
