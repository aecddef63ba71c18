import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fcvideo.faces.yunet import load_yunet
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig, normalize
from fcvideo.models.vgg import VGG19, load_vgg
from fcvideo.training.beginning import FEW_IMAGES, begin_telling, codes_of, collect, graft
from fcvideo.training.principal import DetectorComponents, PrincipalComponents
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
def stage(vgg_file: Path, faces: Tensor) -> ExpressionStage:
    """As after `--reads-detector`: an encoder that begins at its components and does not use the detector yet."""
    torch.manual_seed(0)
    model, vgg = FaceCycle(SIZES), VGG19("conv4_1")
    model.init_fan_in()
    for network in (model.stem, vgg):
        network.load(load_vgg(vgg_file))
    assert model.detector is not None
    model.detector.load(load_yunet())
    made = ExpressionStage(model, vgg, ExpressionWeights(told_features=1, told_detector=1))
    components = PrincipalComponents(SIZES.map_width, SIZES.code_dim)
    components.fit(collect(made, batches(faces), len(faces)).pooled)
    components.start(model.expression_encoder)  # type: ignore[arg-type]
    return made.eval()


def batches(faces: Tensor) -> Iterator[tuple[Tensor, None]]:
    yield from ((part, None) for part in faces.split(16))


def test_a_graft_changes_codes_and_keeps_flows(stage: ExpressionStage, faces: Tensor) -> None:
    examples = collect(stage, batches(faces), len(faces), keep_flows=True)
    assert examples.flows is not None
    before = codes_of(stage, examples)
    graft(stage, examples)
    with torch.no_grad():
        codes = stage.model.encode_expression(faces)
        flows = stage.model.flows(codes)[0]
    assert (codes - before).abs().mean() > 0.1
    error = (flows - examples.flows).square().mean() / examples.flows.float().var(dim=0).mean()
    assert error < 0.1


def test_the_detector_counts_in_grafted_codes_alone(stage: ExpressionStage, faces: Tensor) -> None:
    examples = collect(stage, batches(faces), len(faces))
    read = examples.read.clone()
    read[:, 512:] = read[:, 512:].roll(1, dims=0)  # of another face
    others = dataclasses.replace(examples, read=read)
    assert torch.equal(codes_of(stage, others), codes_of(stage, examples))
    graft(stage, examples)
    assert (codes_of(stage, others) - codes_of(stage, examples)).abs().mean() > 0.1


def test_layers_that_tell_begin_at_what_codes_hold(stage: ExpressionStage, faces: Tensor) -> None:
    examples = collect(stage, batches(faces), len(faces))
    graft(stage, examples)
    for name, part in (("components", examples.pooled), ("detector", examples.detected)):
        stage.extras[name].fit(part)  # type: ignore[operator]

    def told() -> dict[str, Tensor]:
        return stage.told(codes_of(stage, examples), examples.pooled, examples.detected, None)

    unfitted = told()
    begin_telling(stage, examples)
    fitted = told()
    assert fitted.keys() == unfitted.keys() == {"told_features", "told_detector"}
    assert all(fitted[name] < 0.9 * min(1, unfitted[name]) for name in fitted)


def test_codes_are_taken_of_the_first_examples_alone(stage: ExpressionStage, faces: Tensor) -> None:
    examples = collect(stage, batches(faces), len(faces))
    many = dataclasses.replace(
        examples, read=examples.read.repeat(22, 1, 1, 1), pooled=examples.pooled.repeat(22, 1, 1, 1)
    )
    assert len(many) > FEW_IMAGES
    assert len(codes_of(stage, many)) == FEW_IMAGES


def test_components_of_the_detector_are_uncorrelated_and_of_variance_1(stage: ExpressionStage, faces: Tensor) -> None:
    detected = collect(stage, batches(faces), len(faces)).detected
    assert detected is not None
    components = DetectorComponents()
    components.fit(detected)
    found = components(detected)[:, :16]
    assert torch.allclose(torch.cov(found.T), torch.eye(16), atol=0.02)
    assert found.mean(dim=0).abs().max() < 0.01
