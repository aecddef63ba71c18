"""The released code's stage-1 step, spelt out as it computes it: eager, float32, nothing kept from one use to the next.

D_exp runs its stem anew in each of its three passes, VGG-19 sees the input four times (once beside each picture that is
compared with it), SSIM is five grouped convolutions, a sampling grid is made for every warp. The networks are
fcvideo's own, so that both steps can be given the same weights; see github.com/JiaRenChang/FaceCycle,
`train_expression.py` and `Loss.py`, for what this rewrites.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcvideo.models.facecycle import FaceCycle
from fcvideo.models.vgg import VGG19

LAYERS = ("conv2_1", "conv3_1", "conv4_1")


def released_losses(model: FaceCycle, vgg: VGG19, images: Tensor) -> dict[str, Tensor]:
    """Pictures (2B, 3, S, S), the second of each pair in the second half, to the losses by fcvideo's names."""
    codes = model.encode_expression(images)
    forward, backward = model.flows(codes)
    neutral = model.expression_decoder(model.features(images), forward)
    swapped_neutral = swap(neutral)
    warped = warp(images, forward)
    flow_swapped = warp(swap(warped), backward)
    warped_neutral = warp(swapped_neutral, backward)
    rebuilt = model.expression_decoder(model.features(swapped_neutral), backward)
    plain = model.expression_decoder(model.features(images), None)
    found = {
        "rebuilt": F.l1_loss(rebuilt, images),
        "plain": F.l1_loss(plain, images),
        "warped_neutral": F.l1_loss(warped_neutral, images),
        "flow_swapped": F.l1_loss(flow_swapped, images),
    }
    targets = vgg(torch.cat([images, images, images, images]).clone(), LAYERS)
    seen = vgg(torch.cat([neutral, warped_neutral, flow_swapped, rebuilt]), LAYERS)
    found["gram_squared"] = sum(
        (F.mse_loss(gram(ours), gram(theirs).detach()) for ours, theirs in zip(seen, targets, strict=True)),
        torch.zeros((), device=images.device),
    )
    found["ssim_rebuilt"] = 1 - ssim(images, rebuilt)
    found["ssim_plain"] = 1 - ssim(images, plain)
    found["ssim_flow_swapped"] = 1 - ssim(images, flow_swapped)
    found["symmetry"] = symmetry(neutral)
    found["symmetry_warp"] = symmetry(warped)
    pixels = found["rebuilt"] + found["plain"] + found["warped_neutral"] + 1.5 * found["flow_swapped"]
    structure = found["ssim_rebuilt"] + found["ssim_plain"] + 1.5 * found["ssim_flow_swapped"]
    mirror = found["symmetry"] + 0.5 * found["symmetry_warp"]
    return found | {"total": 0.01 * found["gram_squared"] + pixels + 1.5 * mirror + 5.0 * structure}


def swap(x: Tensor) -> Tensor:
    first, second = torch.split(x, len(x) // 2)
    return torch.cat([second, first])


def warp(x: Tensor, flow: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=True).clamp(-1, 1)
    line = np.linspace(-1, 1, width)
    grid = torch.from_numpy(np.stack(np.meshgrid(line, line), 2).astype(np.float32)).repeat(len(x), 1, 1, 1)
    return F.grid_sample(x, grid.to(x.device) + flow.permute(0, 2, 3, 1), align_corners=True)


def gram(features: Tensor) -> Tensor:
    flat = features.flatten(2)
    return torch.bmm(flat, flat.transpose(1, 2)).div(flat.shape[-1])


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Mean structural similarity with an 11-pixel Gaussian window, as the package pytorch_ssim computes it."""
    offsets = torch.arange(11, dtype=torch.float32) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line = line / line.sum()
    window = (line[:, None] @ line[None]).expand(3, 1, 11, 11).contiguous().to(x.device)

    def blur(picture: Tensor) -> Tensor:
        return F.conv2d(picture, window, padding=5, groups=3)

    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
    return (top / ((mean_x**2 + mean_y**2 + 0.01**2) * (variance_x + variance_y + 0.03**2))).mean()


def symmetry(faces: Tensor) -> Tensor:
    half = faces.shape[-1] // 2
    left, right = faces[..., :half].contiguous(), faces[..., half:].flip(3).contiguous()
    return (left - right).abs().mean()
