"""Where a run begins that has no checkpoint: at what features of its first faces show, kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fcvideo.models.encoder import BESIDE_SCALE, STEM_WIDTH, StemEncoder
from fcvideo.training.principal import CODE_DEVIATION, DetectorComponents, pool
from fcvideo.training.stages import PERCEPTUAL_DEPTH, ExpressionStage
from fcvideo.training.telling import ridge

FEW_IMAGES = 2000  # on which linear layers are fitted
DETECTOR_WEIGHT = 2.0  # of the detector's components, beside the numbers of a code, in a grafted code


@dataclass(frozen=True)
class Examples:
    """Faces: what the encoders read of them, and what an expression code may be asked to tell. On the CPU."""

    read: Tensor  # half precision (N, C, H, W)
    pooled: Tensor  # (N, 512, 4, 4) of conv4_1
    landmarks: Tensor | None  # (N, 5, 2), NaN where unknown
    flows: Tensor | None = None  # (N, 2, 16, 16), which D_flow should go on making of their codes

    def __len__(self) -> int:
        return len(self.read)

    def rows(self, which: Tensor | slice, device: torch.device) -> Examples:
        return Examples(
            self.read[which].to(device).float(),
            self.pooled[which].to(device),
            None if self.landmarks is None else self.landmarks[which].to(device),
            None if self.flows is None else self.flows[which].to(device),
        )

    @property
    def detected(self) -> Tensor | None:
        """The detector's part of `read`, where that has one."""
        return self.read[:, STEM_WIDTH:] if self.read.shape[1] > STEM_WIDTH else None


@torch.no_grad()
def collect(
    stage: ExpressionStage, batches: Iterator[tuple[Tensor, Tensor | None]], num_images: int, keep_flows: bool = False
) -> Examples:
    """Examples of pictures (B, 3, S, S) and their landmarks (B, 5, 2), of `num_images` or a few more."""
    model, parts = stage.model, list[list[Tensor]]()
    while sum(len(part[0]) for part in parts) < num_images:
        images, landmarks = next(batches)
        (features,) = stage.vgg(images, (PERCEPTUAL_DEPTH,))
        read = model.encoder_input(images, model.detect(images) | {str(PERCEPTUAL_DEPTH): features})
        part = [read.half(), pool(features)]
        if landmarks is not None:
            part.append(landmarks)
        if keep_flows:
            part.append(model.flows(model.expression_encoder(read))[0].half())
        parts.append([tensor.cpu() for tensor in part])
    found = [torch.cat(column) for column in zip(*parts, strict=True)]
    flows = found.pop() if keep_flows else None
    return Examples(found[0], found[1], found[2] if len(found) > 2 else None, flows)


@torch.no_grad()
def codes_of(stage: ExpressionStage, examples: Examples) -> Tensor:
    """Expression codes (N, D) of the first FEW_IMAGES, on the CPU."""
    device = next(stage.model.parameters()).device
    few = range(0, min(FEW_IMAGES, len(examples)), 64)
    parts = [examples.rows(slice(first, min(first + 64, FEW_IMAGES)), device).read for first in few]
    return torch.cat([stage.model.expression_encoder(part).float().cpu() for part in parts])


@torch.no_grad()
def begin_telling(stage: ExpressionStage, examples: Examples) -> None:
    """The layers that tell begin at what codes hold already."""
    device = next(stage.model.parameters()).device
    few = examples.rows(slice(FEW_IMAGES), device)
    stage.begin_telling(codes_of(stage, examples).to(device), few.pooled, few.detected, few.landmarks)


@torch.no_grad()
def graft(stage: ExpressionStage, examples: Examples) -> None:
    """Gives E_exp the detector's features: its code becomes the principal components of what it was and of the
    detector's components together, and D_flow's first layer reads the old code from the new one."""
    encoder, flow = stage.model.expression_encoder, stage.model.flow_decoder.four.get_submodule("0")
    assert isinstance(encoder, StemEncoder)
    assert encoder.beside is not None
    assert isinstance(flow, nn.Conv2d)
    detected = examples.detected
    assert detected is not None
    components = DetectorComponents()
    components.fit(detected)
    old = codes_of(stage, examples)
    before = torch.atanh(old.double().clamp(-0.999, 0.999))
    mean, deviation = before.mean(dim=0), before.std(dim=0).mean()
    beside = DETECTOR_WEIGHT * components(detected[: len(old)]).double()
    both = torch.cat([(before - mean) / deviation, beside], dim=1)
    variances, vectors = torch.linalg.eigh(torch.cov(both.T))
    kept = vectors.flip(1)[:, : old.shape[1]] / variances.flip(0)[: old.shape[1]].clamp_min(1e-6).sqrt()
    kept = CODE_DEVIATION * kept.T  # (D, D + NUM_DETECTED)
    offset = -kept @ both.mean(dim=0)
    of_code, of_detector = kept[:, : old.shape[1]] / deviation, DETECTOR_WEIGHT * kept[:, old.shape[1] :]
    new = torch.tanh(before @ of_code.T + beside @ kept[:, old.shape[1] :].T + offset - of_code @ mean)
    for layer in (encoder.straight, encoder.last_of_code):
        _through(layer, of_code)
    encoder.straight.bias.add_((offset - of_code @ mean).to(encoder.straight.bias))
    directions = of_detector @ components.directions.double()
    encoder.beside.straight.weight.copy_(directions / BESIDE_SCALE)
    encoder.beside.straight.bias.copy_(-directions @ components.mean.double())
    back, shift = ridge(new, old.double(), 1e-4)
    weight = flow.weight.flatten(1).double().cpu()
    if flow.bias is not None:
        flow.bias.add_((weight @ shift).to(flow.bias))
    flow.weight.copy_((weight @ back).view_as(flow.weight))


def _through(layer: nn.Linear, matrix: Tensor) -> None:
    """The layer's output multiplied by a matrix."""
    layer.weight.copy_(matrix @ layer.weight.double().cpu())
    layer.bias.copy_(matrix @ layer.bias.double().cpu())
