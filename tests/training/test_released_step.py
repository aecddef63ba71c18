"""The plain rewrite in benchmarks/released_step.py and fcvideo's stage compute the same losses and gradients."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.released_step import released_losses
from fcvideo.models.facecycle import FaceCycle
from fcvideo.models.store import load_model
from fcvideo.models.vgg import VGG19, load_vgg
from fcvideo.training.recipes import RECIPES
from fcvideo.training.stages import ExpressionStage


def gradients(model: FaceCycle, total: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_our_step_has_the_losses_of_the_released_one(vgg_file: Path, tiny_model: Path) -> None:
    narrow = load_model(str(tiny_model)).config
    torch.manual_seed(0)
    model = FaceCycle(dataclasses.replace(narrow, stem="conv3_1", inpainting_noise=1.0)).eval()  # fixed noise
    model.init_fan_in()
    vgg = VGG19("conv4_1")
    for network in (model.stem, vgg):
        network.load(load_vgg(vgg_file))
    stage = ExpressionStage(model, vgg, RECIPES["released"].expression)
    stage.enable()
    images = torch.nn.functional.interpolate(
        torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)), size=64, mode="bilinear"
    )
    ours, theirs = stage(images, torch.arange(4).repeat(2)), released_losses(model, vgg, images)
    assert ours.keys() == theirs.keys()
    theirs["gram_squared"] = 4 * theirs["gram_squared"]  # ours adds up four means, at a quarter the weight
    for name, loss in theirs.items():
        assert ours[name].item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-6), name
    expected, found = gradients(model, theirs["total"]), gradients(model, ours["total"])
    assert expected.keys() == found.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        atol = 1e-3 * gradient.abs().max().item() + 1e-6 * largest
        assert torch.allclose(found[name], gradient, atol=atol), name
