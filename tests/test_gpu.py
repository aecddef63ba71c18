"""What only a GPU can show. Needs torch alone; skipped without one, unless FCVIDEO_NEEDS_GPU=1 demands one."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig
from fcvideo.models.vgg import VGG19, load_vgg
from fcvideo.training.recipes import RECIPES
from fcvideo.training.stages import ExpressionStage, IdentityStage

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get("FCVIDEO_NEEDS_GPU") != "1", reason="no GPU here"
)


@pytest.fixture(scope="module", params=["facecycle-64", "facecycle-64-small"])
def model(request: pytest.FixtureRequest) -> FaceCycle:
    torch.manual_seed(0)
    model = FaceCycle(FaceCycleConfig.preset(request.param))
    model.init_fan_in()
    return model.eval()


@pytest.mark.parametrize(("dtype", "nearness"), [(torch.float32, 1e-4), (torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_codes_equal_those_of_the_cpu(model: FaceCycle, dtype: torch.dtype, nearness: float) -> None:
    images = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        expected = model.cpu().embed(images)
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            found = model.cuda().embed(images.cuda())
    for a, b in zip(expected, found, strict=True):
        assert a is not None
        assert b is not None
        assert torch.isfinite(b).all()
        assert (a - b.float().cpu()).abs().max() < nearness


def test_the_detector_finds_the_same_faces_as_on_the_cpu() -> None:
    from fcvideo.faces.detect import FaceDetector

    noise = np.random.default_rng(0).integers(0, 256, (3, 240, 320, 3), dtype=np.uint8)
    cpu, gpu = FaceDetector("cpu", score_threshold=0.01), FaceDetector("cuda", score_threshold=0.01)
    for a, b in zip(cpu(list(noise)), gpu(list(noise)), strict=True):
        assert a.boxes.shape == b.boxes.shape
        assert np.abs(a.boxes - b.boxes).max(initial=0) < 0.5


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_of_both_stages_in_bfloat16(model: FaceCycle, recipe: str, vgg_file: Path) -> None:
    vgg = VGG19("conv4_1")
    vgg.load(load_vgg(vgg_file))
    images = torch.randn(8, 3, 64, 64, device="cuda")
    weights = RECIPES[recipe]
    for stage in (ExpressionStage(model, vgg, weights.expression), IdentityStage(model, vgg, weights.identity)):
        stage.to("cuda").enable()
        whole = stage(images)["total"]
        with torch.autocast("cuda", torch.bfloat16):
            half = stage(images)["total"]
        half.backward()
        assert half.item() == pytest.approx(whole.item(), rel=0.05)
        assert all(torch.isfinite(p.grad).all() for p in stage.parameters() if p.grad is not None)
