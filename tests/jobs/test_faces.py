from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcvideo.config import FacesSettings
from fcvideo.errors import InputError, OutputError
from fcvideo.jobs.faces import faces
from tests.rendering.conftest import EXAMPLE


def test_a_frame_of_a_video_has_its_faces_boxed_and_numbered_with_their_tracks(tmp_path: Path):
    out = tmp_path / "faces.png"
    found = faces(FacesSettings(inputs=(str(EXAMPLE),), out=str(out), time=0.5, gpus=0, progress="none"))
    assert found["pts_seconds"] == pytest.approx(0.48)
    assert [(face["number"], face["track"]) for face in found["faces"]] == [(0, 0)]
    assert abs(found["faces"][0]["turned_deg"]) < 45
    plain = tmp_path / "plain.png"
    Image.open(out).save(plain)
    face = found["faces"][0]
    edge = np.asarray(Image.open(out))[round(face["y"] + face["h"]) - 1, round(face["x"] + face["w"] / 2)]
    assert edge.tolist() == [255, 220, 0]
    again = faces(FacesSettings(inputs=(str(plain),), out=str(out)))
    assert [face["number"] for face in again["faces"]] == [0]
    assert "track" not in again["faces"][0]


def test_what_cannot_be_shown_is_one_line(tmp_path: Path):
    black = tmp_path / "black.png"
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(black)
    with pytest.raises(InputError, match=r"black.png: found no face"):
        faces(FacesSettings(inputs=(str(black),), out=str(tmp_path / "x.png")))
    with pytest.raises(OutputError, match=r"expected \.png"):
        faces(FacesSettings(inputs=(str(black),), out=str(tmp_path / "x.mp4")))
    with pytest.raises(OutputError, match="is the input"):
        faces(FacesSettings(inputs=(str(black),), out=str(black)))
