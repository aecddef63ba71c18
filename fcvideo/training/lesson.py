"""The lesson before stage 1: what the expression encoder is asked to tell, it learns from features kept in memory.

The frozen stem and the pictures are most of a step's cost: without them 64 codes take a seventh of what a step of stage
1 takes for 32 (one core), and stage 1 begins with codes that know the pose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fcvideo.training.beginning import Examples
from fcvideo.training.recipes import Lesson
from fcvideo.training.stages import ExpressionStage

WARMUP_STEPS = 50


def teach(
    stage: ExpressionStage,
    examples: Examples,
    lesson: Lesson,
    seed: int,
    precision: Callable[[], Any],
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Trains E_exp and the layers that tell, and D_flow to make the same flows of the codes as before, where those are
    kept. `precision` gives a context of autocast."""
    encoder, flow_decoder = stage.model.expression_encoder, stage.model.flow_decoder
    device = next(encoder.parameters()).device
    stage.enable()
    trained = [*encoder.parameters(), *stage.extras.parameters()]
    if examples.flows is not None:
        trained += flow_decoder.parameters()
        variance = examples.flows.float().var()
    optimizer = torch.optim.Adam(trained, lr=lesson.lr)
    generator = torch.Generator().manual_seed(seed)
    for step in range(lesson.num_steps):
        warm = min(1.0, (step + 1) / WARMUP_STEPS)
        optimizer.param_groups[0]["lr"] = lesson.lr * warm * 0.5 * (1 + math.cos(math.pi * step / lesson.num_steps))
        batch = examples.rows(torch.randint(len(examples), (lesson.batch_size,), generator=generator), device)
        with precision():
            codes = encoder(batch.read.contiguous(memory_format=torch.channels_last))
            flows = None if batch.flows is None else flow_decoder(codes)
        found = stage.told(codes, batch.condensed, batch.landmarks)
        total = torch.stack([getattr(stage.weights, name) * loss for name, loss in found.items()]).sum()
        if flows is not None and batch.flows is not None:
            found["kept_flows"] = (flows - batch.flows).square().mean() / variance
            total = total + found["kept_flows"]
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)  # without, codes saturated at a learning rate of 8e-4
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, {name: float(loss.detach()) for name, loss in (found | {"total": total}).items()})
