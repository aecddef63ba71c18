"""Where a run begins that has no checkpoint: at what features of its first faces show, kept in memory."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from fcvideo.models.encoder import StemEncoder
from fcvideo.models.flow import FlowDecoder
from fcvideo.training.components import FaceComponents
from fcvideo.training.stages import PERCEPTUAL_DEPTH, ExpressionStage
from fcvideo.training.telling import ridge

FEW_IMAGES = 2000  # on which linear layers are fitted
FLOW_RIDGE = 1e-4  # relative to the variance of a code's numbers


class Views(NamedTuple):
    """Two views of faces, in other framings and colours, and the landmarks of the first."""

    images: Tensor  # (B, 3, S, S), normalized
    twins: Tensor  # (B, 3, S, S)
    landmarks: Tensor | None  # (B, K, 2) in [-1, 1], NaN where unknown


@dataclass(frozen=True)
class Examples:
    """Faces: what the encoders read of them, and what an expression code may be asked to tell. On the CPU."""

    read: Tensor  # half precision (N, C, H, W)
    condensed: Tensor  # half precision (N, D), as `condense` gives it
    landmarks: Tensor | None = None  # (N, K, 2), NaN where unknown
    codes: Tensor | None = None  # (N, D), that a known encoder made of them
    flows: Tensor | None = None  # half precision (N, 2, 16, 16), that D_flow makes of those and should go on making

    def __len__(self) -> int:
        return len(self.read)

    def rows(self, which: Tensor | slice, device: torch.device) -> Examples:
        """Some of them, float32 on the device."""
        columns = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        return Examples(**{name: c[which].to(device).float() for name, c in columns.items() if c is not None})


@torch.no_grad()
def collect(
    stage: ExpressionStage,
    batches: Iterator[Views],
    num_images: int,
    known: nn.Module | None = None,
    on_images: Callable[[int], None] = lambda _: None,
    precision: Callable[[], Any] = nullcontext,
) -> tuple[Examples, Tensor]:
    """Examples of `num_images` pictures or a few more, and `condensed` of their second views; with the codes of a
    `known` expression encoder, and the flows of those. `on_images` is told after each batch how many there are;
    `precision` gives a context of autocast for the frozen networks."""
    model, parts, num = stage.model, dict[str, list[Tensor]](), 0
    while num < num_images:
        images, twins, landmarks = next(batches)
        with precision():
            seen, again = _look(stage, images), _look(stage, twins)
        read = model.encoder_input(images, seen)
        part = {"read": read.half(), "condensed": stage.condense(seen).half(), "twins": stage.condense(again).half()}
        if landmarks is not None:
            part["landmarks"] = landmarks
        if known is not None:
            part["codes"] = known(read.float())
            part["flows"] = model.flows(part["codes"])[0].half()
        for name, tensor in part.items():
            parts.setdefault(name, []).append(tensor.cpu())
        num += len(images)
        on_images(num)
    found = {name: torch.cat(column) for name, column in parts.items()}
    return Examples(**{name: column for name, column in found.items() if name != "twins"}), found["twins"]


@torch.no_grad()
def begin(stage: ExpressionStage, examples: Examples, twins: Tensor, encoders: Collection[StemEncoder]) -> None:
    """These encoders begin at components, and so does what codes are asked to tell; where flows are to be kept,
    D_flow's first layer reads the old codes out of the new ones."""
    sizes, fitted = stage.model.config, dict[bool, FaceComponents]()
    if "components" in stage.extras:
        components = cast(FaceComponents, copy.deepcopy(stage.extras["components"]).cpu())
        components.fit(examples.condensed, twins)
        stage.extras["components"].load_state_dict(components.state_dict())
        fitted[components.reads_detector] = components
    for encoder in encoders:
        reads_detector = encoder.beside is not None
        if reads_detector not in fitted:
            fitted[reads_detector] = FaceComponents(sizes.map_width, sizes.code_dim, reads_detector)
            fitted[reads_detector].fit(examples.condensed, twins)
        fitted[reads_detector].start(encoder)
    if examples.codes is not None and stage.model.expression_encoder in encoders:
        new, old = codes_of(stage, examples), examples.codes[:FEW_IMAGES]
        _read_through(stage.model.flow_decoder, *ridge(new.double(), old.double(), FLOW_RIDGE))


@torch.no_grad()
def begin_telling(stage: ExpressionStage, examples: Examples) -> None:
    """The layers that tell begin at what codes hold already."""
    device = next(stage.model.parameters()).device
    few = examples.rows(slice(FEW_IMAGES), device)
    stage.begin_telling(codes_of(stage, examples).to(device), few.condensed, few.landmarks)


@torch.no_grad()
def codes_of(stage: ExpressionStage, examples: Examples) -> Tensor:
    """Expression codes (N, D) of the first FEW_IMAGES, on the CPU."""
    device = next(stage.model.parameters()).device
    parts = [part.to(device).float() for part in examples.read[:FEW_IMAGES].split(64)]
    return torch.cat([stage.model.expression_encoder(part).float().cpu() for part in parts])


def _look(stage: ExpressionStage, images: Tensor) -> dict[str, Tensor]:
    (features,) = stage.vgg(images, (PERCEPTUAL_DEPTH,))
    return stage.model.detect(images) | {str(PERCEPTUAL_DEPTH): features}


def _read_through(decoder: FlowDecoder, back: Tensor, shift: Tensor) -> None:
    """The decoder's first layer takes `back` times a code plus `shift` where it took that itself."""
    layer = decoder.four.get_submodule("0")
    assert isinstance(layer, nn.Conv2d)
    weight = layer.weight.flatten(1).double().cpu()
    if layer.bias is not None:
        layer.bias.add_((weight @ shift).to(layer.bias))
    layer.weight.copy_((weight @ back).view_as(layer.weight))
