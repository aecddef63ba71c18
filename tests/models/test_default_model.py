"""The model in the package, on the clip in examples/."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fcvideo.config import DEFAULT_MODEL
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.models.facecycle import FaceCycle, denormalize, normalize
from fcvideo.models.store import PRETRAINED, load_model
from fcvideo.training import losses
from fcvideo.video.inputs import resolve_inputs
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments

SAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.mp4"


@pytest.fixture(scope="module")
def model() -> FaceCycle:
    return load_model(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def faces(model: FaceCycle) -> torch.Tensor:
    """Normalized faces (4, 3, S, S) of frames far apart, that turn and move."""
    framing = Framing.of(model.config)
    (source,) = resolve_inputs([str(SAMPLE)])
    frames = [frame.image for segment in plan_segments(source) for frame in read_frames(segment)]
    side, crops = model.config.image_side, []
    for image in frames[:: len(frames) // 4][:4]:
        assert image is not None
        crops.append(crop_face(image, crop_affine(FaceDetector()([image])[0].boxes[0], side, framing), side))
    return normalize(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))


def test_it_is_small_and_has_a_card() -> None:
    folder = PRETRAINED / DEFAULT_MODEL
    assert (folder / "model.safetensors").stat().st_size < 70e6
    assert {"## How it was made", "## Use and limits"} <= set((folder / "README.md").read_text().splitlines())


@torch.no_grad()
def test_neutral_faces_are_more_frontal_and_more_alike_than_the_faces(model: FaceCycle, faces: torch.Tensor) -> None:
    forward, _ = model.flows(model.encode_expression(faces))
    neutral = denormalize(model.neutral_face(faces, forward))
    inputs = denormalize(faces)
    assert losses.symmetry(neutral) < losses.symmetry(inputs)
    assert neutral.std(dim=0).mean() < inputs.std(dim=0).mean()


@torch.no_grad()
def test_a_face_is_rebuilt_better_than_by_another_frame(model: FaceCycle, faces: torch.Tensor) -> None:
    forward, backward = model.flows(model.encode_expression(faces))
    others = model.neutral_face(faces, forward).roll(1, dims=0)
    rebuilt, inputs = denormalize(model.re_express(others, backward)), denormalize(faces)
    assert losses.ssim(rebuilt, inputs).mean() > losses.ssim(inputs.roll(1, dims=0), inputs).mean()
