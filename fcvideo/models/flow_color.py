"""Flows as colors, for people to look at."""

from __future__ import annotations

import colorsys
import math

import torch
from torch import Tensor


def color_flow(flow: Tensor, span: float = 0.3) -> Tensor:
    """Flow (B, 2, H, W) to RGB (B, 3, H, W) in [0, 1]: the hue is the direction, the saturation the length."""
    angle = torch.atan2(flow[:, 1], flow[:, 0]) / (2 * math.pi) + 0.5
    length = (flow.norm(dim=1) / span).clamp(0, 1)
    wheel = torch.tensor([colorsys.hsv_to_rgb(i / 256, 1, 1) for i in range(257)], device=flow.device)
    hues = wheel[(angle * 256).long().clamp(0, 256)]  # (B, H, W, 3)
    return (1 - length[..., None] * (1 - hues)).permute(0, 3, 1, 2)
