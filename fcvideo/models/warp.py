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
    return _sample(x, resize_flow(flow.float(), *x.shape[-2:]), "bilinear", "zeros")


def warp_picture(x: Tensor, flow: Tensor) -> Tensor:
    """As `warp`, for pictures that people look at: bicubic, and the border goes on outside."""
    return _sample(x, resize_flow(flow.float(), *x.shape[-2:]), "bicubic", "border")


def flow_at_points(flow: Tensor, points: Tensor) -> Tensor:
    """Flows (B, 2, h, w) at points (B, K, 2), x before y, both in grid units: (B, K, 2); the border goes on outside."""
    grid = points[:, None].nan_to_num()  # at NaN the gradient on the CPU ends the process
    found = F.grid_sample(flow, grid, padding_mode="border", align_corners=True)
    return found[:, :, 0].transpose(1, 2)


def backward_flow(forward_flow: Tensor) -> Tensor:
    """-W(f, f): the flow that undoes a smooth forward flow to first order (equation 3)."""
    return -warp(forward_flow, forward_flow)


def compose_flows(outer: Tensor, inner: Tensor) -> Tensor:
    """The one flow (B, 2, H, W) that does what warping by `inner`, then by `outer` does; the size is `outer`'s."""
    return outer + _sample(inner, outer, "bilinear", "border")


def invert_flow(flow: Tensor, iterations: int = 8) -> tuple[Tensor, Tensor]:
    """The flow b that undoes a flow f, b(x) = -f(x + b(x)), and how far off it still is (B, 1, H, W), in grid units.

    By iteration, which finds it wherever f does not fold the picture; `backward_flow` is its first two steps or so.
    """
    inverse = -flow
    for _ in range(iterations):
        inverse = -_sample(flow, inverse, "bilinear", "border")
    error = inverse + _sample(flow, inverse, "bilinear", "border")
    return inverse, error.norm(dim=1, keepdim=True)


def area_change(flow: Tensor) -> Tensor:
    """How much larger (1: as large) the place is that each pixel (B, 1, H, W) is sampled from; folds are negative."""
    height, width = flow.shape[-2:]
    across, down = 2 / (width - 1), 2 / (height - 1)  # of a pixel, in grid units
    dx = torch.gradient(flow, dim=3)[0] / across
    dy = torch.gradient(flow, dim=2)[0] / down
    return ((1 + dx[:, 0]) * (1 + dy[:, 1]) - dx[:, 1] * dy[:, 0])[:, None]


def _sample(x: Tensor, flow: Tensor, mode: str, padding: str) -> Tensor:
    """x at the identity grid of the flow's size plus the flow."""
    height, width = flow.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):
        grid = identity_grid(height, width, x.device) + flow.float().permute(0, 2, 3, 1)
        return F.grid_sample(x.float(), grid, mode=mode, padding_mode=padding, align_corners=True)
