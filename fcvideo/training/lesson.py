"""The lesson before stage 1: what the expression encoder is asked to tell, it learns from features kept in memory.

The frozen stem and the pictures are most of a step's cost: without them 64 codes take a seventh of what a step of stage
1 takes for 32 (one core), and stage 1 begins with codes that know the pose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fcvideo.training.recipes import Lesson
from fcvideo.training.stages import ExpressionStage

BEGIN_IMAGES = 2000  # on which the layers that tell of codes begin
WARMUP_STEPS = 50


@dataclass(frozen=True)
class Example:
    """Faces in batches: what the encoder reads of them (N, C, H, W), and what it should tell, where that is asked."""

    read: Tensor
    components: Tensor | None  # (N, D)
    landmarks: Tensor | None  # (N, 5, 2), NaN where unknown

    def rows(self, which: Tensor | slice) -> Example:
        components = None if self.components is None else self.components[which]
        landmarks = None if self.landmarks is None else self.landmarks[which]
        return Example(self.read[which], components, landmarks)


@torch.no_grad()
def collect(stage: ExpressionStage, batches: Iterator[tuple[Tensor, Tensor | None]], num_images: int) -> Example:
    """Examples of pictures (B, 3, S, S) and their landmarks (B, 5, 2); in half precision, on the CPU."""
    read, components, landmarks = list[Tensor](), list[Tensor](), list[Tensor]()
    while sum(map(len, read)) < num_images:
        images, found = next(batches)
        seen = stage.look(images)
        read.append(stage.model.encoder_input(images, seen).half().cpu())
        if (asked := stage.components(seen)) is not None:
            components.append(asked.cpu())
        if found is not None:
            landmarks.append(found.cpu())
    return Example(
        torch.cat(read), torch.cat(components) if components else None, torch.cat(landmarks) if landmarks else None
    )


@torch.no_grad()
def begin(stage: ExpressionStage, examples: Example) -> None:
    """The layers that tell begin at what codes hold already."""
    few = examples.rows(slice(BEGIN_IMAGES))
    codes = torch.cat([stage.model.expression_encoder(_ready(part, stage)) for part in few.read.split(64)])
    stage.begin_telling(codes.float().cpu(), few.components, few.landmarks)


def teach(
    stage: ExpressionStage,
    examples: Example,
    lesson: Lesson,
    seed: int,
    precision: Callable[[], Any],
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Trains E_exp and the layers that tell. `precision` gives a context of autocast."""
    encoder = stage.model.expression_encoder
    stage.enable()
    trained = [*encoder.parameters(), *stage.extras.parameters()]
    optimizer = torch.optim.Adam(trained, lr=lesson.lr)
    generator = torch.Generator().manual_seed(seed)
    for step in range(lesson.num_steps):
        warm = min(1.0, (step + 1) / WARMUP_STEPS)
        optimizer.param_groups[0]["lr"] = lesson.lr * warm * 0.5 * (1 + math.cos(math.pi * step / lesson.num_steps))
        batch = examples.rows(torch.randint(len(examples.read), (lesson.batch_size,), generator=generator))
        with precision():
            codes = encoder(_ready(batch.read, stage))
        found = stage.told(codes, *(_to(part, codes.device) for part in (batch.components, batch.landmarks)))
        total = torch.stack([getattr(stage.weights, name) * loss for name, loss in found.items()]).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)  # without, codes saturated at a learning rate of 8e-4
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, float(total.detach()))


def _ready(read: Tensor, stage: ExpressionStage) -> Tensor:
    device = next(stage.model.parameters()).device
    return read.to(device).float().contiguous(memory_format=torch.channels_last)


def _to(part: Tensor | None, device: torch.device) -> Tensor | None:
    return None if part is None else part.to(device)
