"""The losses, one by one. Pictures are (B, 3, H, W), normalized; every loss is a mean over the batch, so that
the mean over ranks of equal size is the loss of the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

from fcvideo.models.warp import flow_at_points
from fcvideo.training.replicas import gather_over_replicas, gather_with_gradients, replica_rank

SSIM_WINDOW_PX = 11
SSIM_DEVIATION_PX = 1.5
INVERSE_STEPS = 4  # of the iteration that finds a landmark's place in the neutral face


def l1(found: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference (equations 4, 8 and 16)."""
    return (found - target).abs().mean()


def l1_where(found: Tensor, target: Tensor, where: Tensor) -> Tensor:
    """Mean absolute difference of each picture, weighted by place, `where` (B, 1, H, W); 0 where that is nowhere."""
    weight = found.shape[1] * where.sum(dim=(1, 2, 3))
    return (((found - target).abs() * where).sum(dim=(1, 2, 3)) / weight.clamp_min(1e-6)).mean()


def feature_distance(found: Tensor, target: Tensor) -> Tensor:
    """Root mean square over a picture's features, the first term of the paper's perceptual loss.

    The paper writes the plain 2-norm; dividing by the root of the number of features makes its
    weight independent of the layer's size.
    """
    return _root_mean_square(found, target)


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) to the Gram matrices (B, C, C), divided by H W."""
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)
        return flat @ flat.transpose(1, 2) / flat.shape[-1]


def gram_distance(found: Tensor, target: Tensor) -> Tensor:
    """Root mean square over the Gram matrix, the second term of the paper's perceptual loss."""
    return _root_mean_square(gram(found), gram(target))


def gram_squared(found: Tensor, target: Tensor) -> Tensor:
    """Mean square over the Gram matrix, the released code's perceptual loss."""
    return (gram(found) - gram(target)).square().mean()


def _root_mean_square(found: Tensor, target: Tensor) -> Tensor:
    squares = (found.float() - target.float()).square().flatten(1).mean(dim=1)
    return (squares + 1e-12).sqrt().mean()  # the root of zero has no gradient


def ssim_loss(found: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM with an 11-pixel Gaussian window of deviation 1.5, zero-padded (released code)."""
    return 1 - ssim(found, target).mean()


def ssim(found: Tensor, target: Tensor, span: float = 1.0) -> Tensor:
    """Structural similarity (B,); `span` is the range of values that the constants are scaled to."""
    with torch.autocast(found.device.type, enabled=False):
        x, y = found.float(), target.float()
        channels = x.shape[1]
        blurred = _blur(torch.cat([x, y, x * x, y * y, x * y], dim=1))
        mean_x, mean_y, mean_xx, mean_yy, mean_xy = blurred.split(channels, dim=1)
        variance_x, variance_y = mean_xx - mean_x**2, mean_yy - mean_y**2
        covariance = mean_xy - mean_x * mean_y
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
        return (luminance * structure).mean(dim=(1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    """The Gaussian window, as banded matrices from both sides: cheaper than a grouped convolution."""
    return _band(x.shape[-2], x.device) @ x @ _band(x.shape[-1], x.device).T


def _band(side: int, device: torch.device) -> Tensor:
    radius = SSIM_WINDOW_PX // 2
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    window = torch.exp(-(offsets**2) / (2 * SSIM_DEVIATION_PX**2))
    distance = torch.arange(side)[None, :] - torch.arange(side)[:, None] + radius
    inside = (distance >= 0) & (distance < SSIM_WINDOW_PX)
    return torch.where(inside, (window / window.sum())[distance.clamp(0, SSIM_WINDOW_PX - 1)], 0.0).to(device)


def symmetry(faces: Tensor) -> Tensor:
    """Mean absolute difference of a picture's left half and its mirrored right half: makes neutral faces frontal."""
    half = faces.shape[-1] // 2
    return (faces[..., :half] - faces[..., half:].flip(-1)).abs().mean()


def margin(mean_faces: Tensor, neutral_faces: Tensor, alpha: float = 0.1) -> Tensor:
    """max(mean |difference| - alpha, 0) of each picture (equation 17): keeps the mean face a face."""
    return ((mean_faces - neutral_faces).abs().mean(dim=(1, 2, 3)) - alpha).clamp_min(0).mean()


def margin_without_hinge(mean_faces: Tensor, neutral_faces: Tensor, alpha: float = 0.1) -> Tensor:
    """The margin as the released code computes it: its hinge has no effect."""
    return (mean_faces - neutral_faces).abs().mean() - alpha


def told(found: Tensor, components: Tensor) -> Tensor:
    """Mean squared error of components (B, N) of variance 1: the share of it that a code does not tell."""
    return (found.float() - components.float()).square().mean()


def carried(forward_flow: Tensor, landmarks: Tensor) -> Tensor:
    """How far from a face's landmarks those of its pair end that its neutral face brings there, in grid units.

    Forward flows (2B, 2, h, w), the second of each pair in the second half, and landmarks (2B, K, 2) in [-1, 1] of
    pictures, NaN where unknown: such pairs count as 0.
    """
    with torch.autocast(forward_flow.device.type, enabled=False):
        flow, found = forward_flow.float(), landmarks.isfinite().flatten(1).all(dim=1)
        points = torch.where(found[:, None, None], landmarks, 0.0).float()
        neutral = points
        with torch.no_grad():
            for _ in range(INVERSE_STEPS):
                neutral = points - flow_at_points(flow, neutral)
        neutral = points - flow_at_points(flow, neutral)
        half = len(found) // 2
        swapped = neutral.roll(half, dims=0)
        error = (swapped + flow_at_points(flow, swapped) - points).norm(dim=2).mean(dim=1)
        return (error * (found & found.roll(half))).mean()


def same_person(codes: Tensor, persons: Tensor, temperature: float = 0.1) -> Tensor:
    """Contrast by cosine: a code (B, D) should be told from all others by those of its person (B,), over all ranks.

    Khosla et al. 2020, "Supervised Contrastive Learning", equation 2.
    """
    alike = torch.nn.functional.normalize(codes.float(), dim=1)
    everyone, everyones = gather_with_gradients(alike), gather_over_replicas(persons)
    own = torch.arange(len(codes), device=codes.device) + replica_rank() * len(codes)
    itself = torch.nn.functional.one_hot(own, len(everyone)).bool()
    same = (persons[:, None] == everyones[None]) & ~itself
    chance = (alike @ everyone.T / temperature).masked_fill(itself, -1e9).log_softmax(dim=1)
    return -((chance * same).sum(dim=1) / same.sum(dim=1).clamp_min(1)).mean()
