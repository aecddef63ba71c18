"""Real faces and the default model: what a picture shows can be judged on real parts only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fcvideo.config import DEFAULT_MODEL
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.models.store import load_model
from fcvideo.rendering.portrait import PortraitPainter
from fcvideo.video.inputs import Source
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments

EXAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.mp4"
SIZE_PX = 128


@dataclass(frozen=True)
class FaceClip:
    images: list[np.ndarray]
    boxes: np.ndarray  # (F, 4)
    crops: np.ndarray  # uint8 (F, S, S, 3)
    pictures: np.ndarray  # uint8 (F, SIZE_PX, SIZE_PX, 3)


@pytest.fixture(scope="session")
def painter() -> PortraitPainter:
    return PortraitPainter(load_model(DEFAULT_MODEL))


def load_clip(path: Path, painter: PortraitPainter, step: int, num: int = 8) -> FaceClip:
    """Every `step`-th frame, `num` at most; each must show a face."""
    images: list[np.ndarray] = []
    for segment in plan_segments(Source(str(path), path.name)):
        for frame in read_frames(segment):
            if frame.frame_index % step == 0 and len(images) < num:
                assert frame.image is not None
                images.append(frame.image)
    boxes = np.stack([faces.boxes[0] for faces in FaceDetector(min_face_px=40)(images)])
    crops, pictures = (
        np.stack(
            [
                crop_face(image, crop_affine(box, side, Framing.of(painter.model.config)), side)
                for image, box in zip(images, boxes, strict=True)
            ]
        )
        for side in (painter.side_px, SIZE_PX)
    )
    return FaceClip(images, boxes, crops, pictures)


@pytest.fixture(scope="session")
def astronaut(painter: PortraitPainter) -> FaceClip:
    return load_clip(EXAMPLE, painter, step=12)


@pytest.fixture(scope="session")
def turning_head(media: Path, painter: PortraitPainter) -> FaceClip:
    """A man who turns his head and laughs."""
    return load_clip(media / "franck.mp4", painter, step=30)
