from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from fcvideo.clips.store import ClipStore
from fcvideo.config import DEFAULT_MODEL
from fcvideo.jobs.model_face import write_mean_face
from fcvideo.models.store import CONFIG, MEAN_FACE, WEIGHTS, locate_model


def test_a_model_gets_the_mean_face_of_its_clips(tmp_path: Path, people: Path, crops_file: Path):
    for name in (CONFIG, WEIGHTS):
        shutil.copy(locate_model(DEFAULT_MODEL) / name, tmp_path)
    assert not write_mean_face(ClipStore(crops_file), tmp_path)  # no faces
    assert not (tmp_path / MEAN_FACE).exists()
    assert write_mean_face(ClipStore(people), tmp_path)
    face = np.asarray(Image.open(tmp_path / MEAN_FACE))
    assert np.abs(face.astype(int) - face[:, ::-1]).max() <= 1
    assert face[60:100, 60:100].mean() > face[-20:].mean() + 10  # a lit face before something darker
