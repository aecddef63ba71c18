from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fcvideo.clips import augment
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.training.landmarks import (
    MIRRORED,
    NUM_LANDMARKS,
    LandmarkFinder,
    anchors,
    describe,
    follow,
    parts_mask,
)
from fcvideo.video.inputs import resolve_inputs
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "astronaut.mp4"
SIDE = 96


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mean_landmarks(crop: Tensor) -> Tensor:
    """(K, 2), over views."""
    return LandmarkFinder()(crop.expand(8, -1, -1, -1), seeded(1)).mean(dim=0)


@pytest.fixture(scope="module")
def face() -> tuple[Tensor, Tensor]:
    """A crop of the sample, uint8 (3, 96, 96), and its anchors (5, 2) in [-1, 1], detected in the frame by YuNet."""
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
    every = LandmarkFinder()(crop.expand(16, -1, -1, -1), seeded(0))
    assert every.shape == (16, NUM_LANDMARKS, 2)
    found = anchors(every)
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
    """They lie where the mesh sees them in the augmented picture itself, turned by up to 40 degrees."""
    crop, _ = face
    landmarks = mean_landmarks(crop)
    spec = augment.Augmentation(zoom=0.1, shift=0.03, rotation_deg=40)
    affine = augment.draw_affine(np.random.default_rng(3), spec, flip)[None, :2]
    affine = torch.from_numpy(affine).float()
    picture = augment.apply(crop[None], affine, torch.eye(3, 4)[None], SIDE)[0]
    followed = follow(landmarks[None], affine)[0]
    assert (followed - mean_landmarks((255 * picture).byte())).abs().max() < 0.08
    unmoved = landmarks[MIRRORED] * torch.tensor([-1.0, 1.0]) if flip else landmarks
    assert (followed - unmoved).abs().max() > 0.1


def test_a_mirror_image_has_each_landmark_on_the_other_side() -> None:
    assert sorted(MIRRORED) == list(range(NUM_LANDMARKS))
    assert [MIRRORED[i] for i in MIRRORED] == list(range(NUM_LANDMARKS))


def test_half_of_what_is_told_of_the_anchors_knows_neither_place_nor_size() -> None:
    landmarks = torch.randn(4, NUM_LANDMARKS, 2, generator=seeded(0))
    placed, *others = describe(landmarks)
    assert torch.equal(placed, anchors(landmarks).flatten(1))
    for found, moved in zip(others, describe(3 * landmarks + torch.tensor([0.5, -0.2]))[1:], strict=True):
        assert torch.allclose(found, moved, atol=1e-5)


def test_parts_are_eyes_and_lips(face: tuple[Tensor, Tensor]) -> None:
    landmarks = LandmarkFinder()(face[0].expand(2, -1, -1, -1), seeded(0))
    landmarks[1] = torch.nan
    mask = parts_mask(landmarks, SIDE)
    assert mask.shape == (2, 1, SIDE, SIDE)
    assert (mask[1] == 0).all()
    five = anchors(landmarks)[0]
    centers = torch.stack([five[0], five[1], five[3:].mean(dim=0), five[2]])  # eyes, lips, nose
    columns, rows = ((centers + 1) * SIDE / 2).long().T
    at_parts = mask[0, 0, rows, columns]
    assert (at_parts[:3] > 0.9).all()
    assert at_parts[3] < 0.8
    assert mask[0, 0, 0, 0] < 0.01
