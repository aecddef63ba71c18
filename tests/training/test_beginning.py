import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fcvideo.faces.yunet import load_yunet
from fcvideo.models.encoder import StemEncoder
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig, normalize
from fcvideo.models.vgg import VGG19, load_vgg
from fcvideo.training.beginning import FEW_IMAGES, Examples, Views, begin, begin_telling, codes_of, collect
from fcvideo.training.components import CODE_DEVIATION
from fcvideo.training.recipes import ExpressionWeights
from fcvideo.training.stages import ExpressionStage

SIZES = FaceCycleConfig(
    encoders_read="conv4_1",
    reads_detector=True,
    code_dim=24,
    encoder_widths=(8, 8, 8),
    map_width=8,
    hidden=16,
    flow_widths=(8, 8, 8),
    stem="conv2_1",
    decoder_width=8,
    up_width=8,
)
SHEET = Path(__file__).resolve().parents[2] / "fcvideo" / "models" / "pretrained" / "facecycle-64-small" / "sheet.png"


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """Normalized pictures (96, 3, 64, 64): pieces of a picture of faces, each of another place and size."""
    sheet, rng = Image.open(SHEET).convert("RGB"), np.random.default_rng(0)
    pieces = []
    for _ in range(96):
        side = int(rng.integers(90, 160))
        x, y = (int(rng.integers(0, extent - side)) for extent in sheet.size)
        pieces.append(np.asarray(sheet.crop((x, y, x + side, y + side)).resize((64, 64))))
    return normalize(torch.from_numpy(np.stack(pieces)).permute(0, 3, 1, 2))


@pytest.fixture
def stage(vgg_file: Path) -> ExpressionStage:
    """A model with an untrained expression encoder that reads the detector."""
    torch.manual_seed(0)
    model, vgg = FaceCycle(SIZES), VGG19("conv4_1")
    model.init_fan_in()
    for network in (model.stem, vgg):
        network.load(load_vgg(vgg_file))
    assert model.detector is not None
    model.detector.load(load_yunet())
    return ExpressionStage(model, vgg, ExpressionWeights(told_features=1)).eval()


def batches(faces: Tensor) -> Iterator[Views]:
    yield from (Views(part, part + 0.1 * torch.randn(part.shape), None) for part in faces.split(16))


def begun(stage: ExpressionStage, faces: Tensor, known: nn.Module | None = None) -> Examples:
    """Examples, after the stage's expression encoder began at them."""
    examples, twins = collect(stage, batches(faces), len(faces), known)
    begin(stage, examples, twins, [cast(StemEncoder, stage.model.expression_encoder)])
    return examples


def test_codes_begin_at_the_components_that_are_told(stage: ExpressionStage, faces: Tensor) -> None:
    examples = begun(stage, faces)
    told = stage.extras["components"](examples.condensed)[:, : SIZES.code_dim]
    assert torch.allclose(torch.atanh(codes_of(stage, examples)), CODE_DEVIATION * told, atol=0.02)


def test_flows_of_a_known_encoder_are_kept(stage: ExpressionStage, faces: Tensor) -> None:
    known, decoder = copy.deepcopy(stage.model.expression_encoder), copy.deepcopy(stage.model.flow_decoder)
    examples = begun(stage, faces, known)
    assert examples.flows is not None
    with torch.no_grad():
        codes = stage.model.encode_expression(faces)
        assert (codes - known(examples.read.float())).abs().mean() > 0.1
        kept, changed = ((d(codes) - examples.flows).square().mean() for d in (stage.model.flow_decoder, decoder))
    assert kept < 0.5 * changed


def test_the_detector_counts_in_codes_that_begin(stage: ExpressionStage, faces: Tensor) -> None:
    examples = begun(stage, faces)
    read = examples.read.clone()
    read[:, 512:] = read[:, 512:].roll(1, dims=0)  # of another face
    others = dataclasses.replace(examples, read=read)
    assert (codes_of(stage, others) - codes_of(stage, examples)).abs().mean() > 0.05


def test_layers_that_tell_begin_at_what_codes_hold(stage: ExpressionStage, faces: Tensor) -> None:
    examples = begun(stage, faces)

    def told() -> float:
        return stage.told(codes_of(stage, examples), examples.condensed, None)["told_features"].item()

    unfitted = told()
    begin_telling(stage, examples)
    assert told() < 0.6 * min(1, unfitted)  # half of the components are what the code is


def test_codes_are_taken_of_the_first_examples_alone(stage: ExpressionStage, faces: Tensor) -> None:
    examples, _ = collect(stage, batches(faces), len(faces))
    many = dataclasses.replace(examples, read=examples.read.repeat(22, 1, 1, 1))
    assert len(many) > FEW_IMAGES
    assert len(codes_of(stage, many)) == FEW_IMAGES
