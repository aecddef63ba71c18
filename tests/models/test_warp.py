from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fcvideo.models.warp import area_change, compose_flows, identity_grid, invert_flow, resize_flow, warp, warp_picture


def smooth_flow(seed: int, size: float = 0.15, side: int = 64) -> Tensor:
    coarse = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(seed)) * size
    return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)


def picture(side: int = 64) -> Tensor:
    coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(9))
    return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)


def test_no_flow_changes_nothing():
    x, none = picture(), torch.zeros(1, 2, 16, 16)
    for warped in (warp(x, none), warp_picture(x, none)):
        torch.testing.assert_close(warped, x, atol=1e-4, rtol=0)


def test_an_inverted_flow_undoes_it():
    flow = smooth_flow(0, 0.04)
    inverse, error = invert_flow(flow)
    assert error[..., 8:-8, 8:-8].max() < 1e-3
    there_and_back = warp_picture(warp_picture(picture(), flow), inverse)
    assert (there_and_back - picture())[..., 12:-12, 12:-12].abs().mean() < 0.01


def test_what_cannot_be_undone_is_told():
    far = torch.zeros(1, 2, 64, 64)
    far[:, 0, :, ::2] = 0.3  # every other column jumps: no smooth flow undoes that
    assert invert_flow(far)[1].max() > 0.05


def test_composed_flows_warp_as_one_after_the_other():
    inner, outer = smooth_flow(1, 0.06), smooth_flow(2, 0.06)
    once = warp_picture(picture(), compose_flows(outer, inner))
    twice = warp_picture(warp_picture(picture(), inner), outer)
    assert (once - twice)[..., 8:-8, 8:-8].abs().mean() < 0.005


def test_area_change_is_the_determinant():
    zoom = -0.5 * identity_grid(32, 32).permute(2, 0, 1)[None]  # sampled from half the width and half the height
    torch.testing.assert_close(area_change(zoom), torch.full((1, 1, 32, 32), 0.25))
    flip = identity_grid(32, 32).permute(2, 0, 1)[None] * torch.tensor([-2.0, 0.0]).view(1, 2, 1, 1)
    assert area_change(flip).max() < 0


def test_a_flow_is_the_same_at_any_size():
    flow = smooth_flow(3, side=16)
    torch.testing.assert_close(resize_flow(resize_flow(flow, 61, 61), 16, 16), flow, atol=0.02, rtol=0)
