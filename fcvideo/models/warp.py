"""Warping by a flow in normalized grid units: [-1, 1] spans the picture, corners aligned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def identity_grid(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """(H, W, 2) of x, y: the sampling grid that changes nothing."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, device=device), torch.linspace(-1, 1, width, device=device), indexing="ij"
    )
    return torch.stack([x, y], dim=-1)


def resize_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """Flow (B, 2, h, w) at another resolution; its units do not change with the size."""
    if flow.shape[-2:] == (height, width):
        return flow
    return F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=True)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """W(x, f): samples x (B, C, H, W) at the identity grid plus flow, bilinearly, zeros outside.

    Computed in float32 whatever the autocast: 8 bits of mantissa are too few for a position.
    """
    height, width = x.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):
        shift = resize_flow(flow.float(), height, width).permute(0, 2, 3, 1)
        grid = identity_grid(height, width, x.device) + shift
        return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def backward_flow(forward_flow: Tensor) -> Tensor:
    """-W(f, f): the flow that undoes a smooth forward flow to first order (equation 3)."""
    return -warp(forward_flow, forward_flow)
