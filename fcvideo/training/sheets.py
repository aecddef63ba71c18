"""Picture sheets: what the networks make of some faces, a row a face, a column a step."""

from __future__ import annotations

import torch
from torch import Tensor

from fcvideo.models.facecycle import FaceCycle, denormalize
from fcvideo.models.flow_color import color_flow
from fcvideo.models.warp import resize_flow
from fcvideo.training.stages import swap_pairs

COLUMNS = ("input", "flow", "neutral", "backward flow", "mean", "rebuilt", "pair-swapped")
GAP_PX = 2


@torch.no_grad()
def draw_sheet(model: FaceCycle, images: Tensor) -> Tensor:
    """Normalized pairs (2B, 3, S, S) to one picture, uint8 (3, H, W), with `COLUMNS` across (paper, figure 4)."""
    training = model.training
    model.eval()
    read = model.encoder_input(images)
    forward, backward = model.flows(model.expression_encoder(read))
    neutral = model.neutral_face(images, forward)
    identity = model.identity_encoder(read)
    columns = [
        denormalize(images),
        color_flow(resize_flow(forward, *images.shape[-2:])),
        denormalize(neutral),
        color_flow(resize_flow(backward, *images.shape[-2:])),
        denormalize(model.mean_face(neutral, identity)),
        denormalize(model.re_express(neutral, backward)),
        denormalize(model.re_express(swap_pairs(neutral), backward)),
    ]
    model.train(training)
    padded = [torch.nn.functional.pad(column, [0, GAP_PX, 0, GAP_PX], value=1.0) for column in columns]
    rows = torch.cat(padded, dim=3)  # (2B, 3, S + gap, 7 (S + gap))
    sheet = torch.cat(list(rows), dim=1)
    return (sheet * 255).round().to(torch.uint8).cpu()
