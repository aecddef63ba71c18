from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from fcvideo.clips.store import ClipStore
from fcvideo.config import DEFAULT_MODEL
from fcvideo.evaluation.reconstruction import ClipPictures
from fcvideo.faces.crop import Framing
from fcvideo.faces.detect import FaceDetector
from fcvideo.models.store import MEAN_FACE, locate_model
from fcvideo.rendering.mean_face import SIDE_PX, mean_face
from fcvideo.rendering.renderer import Rendering, make_renderer
from tests.rendering.conftest import SIZE_PX, FaceClip
from tests.rendering.test_renderer import moments_of


def test_the_mean_of_many_faces_is_a_symmetric_face(people: Path):
    pictures = ClipPictures(ClipStore(people), Framing(1.25, (0.5, 0.4)), 1.45)
    found = mean_face(np.asarray(pictures.image(index)) for index in range(0, len(pictures), 5))
    assert found is not None
    assert found.shape == (SIDE_PX, SIDE_PX, 3)
    assert np.abs(found.astype(int) - found[:, ::-1]).max() <= 1
    assert len(FaceDetector(min_face_px=40)([found])[0]) == 1


def test_few_faces_would_show_through(astronaut: FaceClip):
    assert mean_face(iter(astronaut.pictures)) is None


def test_a_model_s_mean_face_replaces_an_identity(tmp_path: Path, astronaut: FaceClip, turning_head: FaceClip):
    model = tmp_path / "model"
    shutil.copytree(locate_model(DEFAULT_MODEL), model)
    Image.fromarray(astronaut.pictures[0]).save(model / MEAN_FACE)
    with_face, without = tmp_path / "model", tmp_path / "bare"
    shutil.copytree(model, without)
    (without / MEAN_FACE).unlink()
    (shown,), (drawn,) = (
        make_renderer(Rendering("deidentify", str(folder), "float32", "crop", SIZE_PX)).render(
            moments_of(turning_head, 1)
        )
        for folder in (with_face, without)
    )
    sharpness = [np.abs(np.diff(picture.astype(int), axis=1)).mean() for picture in (drawn, shown)]
    assert sharpness[1] > 2 * sharpness[0]
