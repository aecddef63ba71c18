from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fcvideo.clips import augment
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.training.landmarks import MIRRORED, LandmarkFinder, describe, follow
from fcvideo.video.inputs import resolve_inputs
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "astronaut.mp4"
SIDE = 96


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def face() -> tuple[Tensor, Tensor]:
    """A crop of the sample, uint8 (3, 96, 96), and its landmarks (5, 2) in [-1, 1], detected in the frame."""
    (source,) = resolve_inputs([str(SAMPLE)])
    frame = next(iter(read_frames(plan_segments(source)[0]))).image
    assert frame is not None
    found = FaceDetector()([frame])[0]
    affine = crop_affine(found.boxes[0], SIDE, Framing())
    crop = crop_face(frame, affine, SIDE)
    landmarks = found.landmarks[0] @ affine[:, :2].T + affine[:, 2]
    return torch.from_numpy(crop).permute(2, 0, 1), torch.from_numpy(landmarks / SIDE * 2 - 1).float()


def test_landmarks_of_a_crop_are_those_of_the_picture_that_it_was_cut_from(face: tuple[Tensor, Tensor]) -> None:
    crop, expected = face
    found = LandmarkFinder()(crop.expand(16, -1, -1, -1), seeded(0))
    assert (found - expected).abs().max() < 0.15  # each view, of half a side
    assert (found.mean(dim=0) - expected).abs().max() < 0.08  # a view of the frame errs too
    assert not torch.equal(found[0], found[1])  # seen through different views


def test_where_no_face_is_there_are_no_landmarks(face: tuple[Tensor, Tensor]) -> None:
    crops = torch.stack([face[0], torch.full_like(face[0], 128)])
    found = LandmarkFinder()(crops, seeded(0))
    assert found[0].isfinite().all()
    assert found[1].isnan().all()


@pytest.mark.parametrize("flip", [False, True])
def test_landmarks_follow_an_augmented_picture(face: tuple[Tensor, Tensor], flip: bool) -> None:
    """They lie where the detector sees them in the augmented picture itself."""
    crop, landmarks = face
    spec = augment.Augmentation(zoom=0.1, shift=0.03, rotation_deg=15)
    affine = augment.draw_affine(np.random.default_rng(3), spec, flip)[None, :2]
    affine = torch.from_numpy(affine).float()
    picture = augment.apply(crop[None], affine, torch.eye(3, 4)[None], SIDE)
    seen = LandmarkFinder()((255 * picture).byte().expand(16, -1, -1, -1), seeded(1)).mean(dim=0)
    followed = follow(landmarks[None], affine)[0]
    assert (followed - seen).abs().max() < 0.08
    unmoved = landmarks[MIRRORED] * torch.tensor([-1.0, 1.0]) if flip else landmarks
    assert (followed - unmoved).abs().max() > 0.1


def test_half_of_what_is_told_knows_neither_place_nor_size() -> None:
    landmarks = torch.randn(4, 5, 2, generator=seeded(0))
    moved = describe(3 * landmarks + torch.tensor([0.5, -0.2]))
    assert torch.allclose(describe(landmarks)[:, 10:], moved[:, 10:], atol=1e-5)
    assert torch.equal(describe(landmarks)[:, :10], landmarks.flatten(1))
