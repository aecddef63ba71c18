"""What frozen features say of a face whatever its framing and colours: where encoders above the stem begin, and what
an expression code is asked to tell."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fcvideo.models.encoder import (
    BESIDE_SCALE,
    DETECTOR_NUMBERS,
    MAP_SIDE,
    STEM_WIDTH,
    StemEncoder,
    detector_numbers,
    pool,
)

STEM_NUMBERS = STEM_WIDTH * MAP_SIDE**2
DETECTOR_DIRECTIONS = 512  # principal ones, to which the detector's numbers are reduced first
LEAST_NOISE = 0.15  # of every direction, relative to the mean one's: less is chance in few thousand pictures
SMALLEST_RATIO = 1e-5  # of a component's variance to its noise, relative to the first one's; less is rounding
CODE_DEVIATION = 0.35  # of each number of a code that starts at a component: tanh is nearly straight there


def condense(features: Tensor, detected: Tensor | None) -> Tensor:
    """conv4_1 (B, 512, H, W) and, where it is read, the detector's features (B, 128, H, W) to (B, 8192 or 16384)."""
    parts = [pool(features.float()).flatten(1)]
    if detected is not None:
        parts.append(detector_numbers(detected.float()))
    return torch.cat(parts, dim=1)


class FaceComponents(nn.Module):
    """Condensed features to `num` uncorrelated numbers of mean 0 and variance 1: of all linear functions those that
    differ most between faces, relative to how much they differ between two views of one face.

    Green et al. 1988, "A Transformation for Ordering Multispectral Data in Terms of Image Quality with Implications for
    Noise Removal" (minimum noise fraction). The stem's channels are first reduced to `width` principal ones. Zero until
    `fit` is called.
    """

    channel_mean: Tensor
    channels: Tensor
    mean: Tensor
    directions: Tensor

    def __init__(self, width: int, num: int, reads_detector: bool) -> None:
        super().__init__()
        self.reads_detector, self.map_numbers = reads_detector, width * MAP_SIDE**2
        numbers = self.map_numbers + reads_detector * DETECTOR_NUMBERS
        self.register_buffer("channel_mean", torch.zeros(STEM_WIDTH))
        self.register_buffer("channels", torch.zeros(width, STEM_WIDTH))  # of mean variance 1
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("directions", torch.zeros(num, numbers))

    def forward(self, condensed: Tensor) -> Tensor:
        """`condense` of faces (B, D) to components (B, num), float32."""
        with torch.autocast(condensed.device.type, enabled=False):
            return (self._numbers(condensed.float()) - self.mean) @ self.directions.T

    @torch.no_grad()
    def fit(self, views: Tensor, twins: Tensor) -> None:
        """Takes the directions from `condense` of two views (N, D) of each face, whose framing and colours differ;
        what so few faces cannot give stays zero."""
        stem = views[:, :STEM_NUMBERS].float().unflatten(1, (STEM_WIDTH, MAP_SIDE**2))
        variances, vectors = torch.linalg.eigh(torch.cov(stem.transpose(0, 1).flatten(1).double()))
        self.channel_mean.copy_(stem.mean(dim=(0, 2)))
        self.channels.copy_(vectors.flip(1).T[: len(self.channels)])
        self.channels.div_(variances.flip(0)[: len(self.channels)].mean().sqrt())
        numbers = [self._numbers(part.float()) for part in (views, twins)]
        self.mean.copy_(torch.cat(numbers).mean(dim=0))
        reduction = self._reduction(numbers[0])
        first, second = ((part - self.mean) @ reduction for part in numbers)
        directions = _least_noisy(first, second, len(self.directions))
        self.directions[: directions.shape[1]].copy_((reduction @ directions).T)

    @torch.no_grad()
    def start(self, encoder: StemEncoder) -> None:
        """Sets the encoder's straight ways to the first components; its other ways begin at zero."""
        directions = CODE_DEVIATION * self.directions[: encoder.straight.out_features]
        values = {
            "project.weight": self.channels[:, :, None, None],
            "project.bias": -self.channels @ self.channel_mean,
            "straight.weight": directions[:, : self.map_numbers],
            "straight.bias": -directions @ self.mean,
        }
        for layer in (encoder.last_of_map, encoder.last_of_code):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        encoder.silence_beside()
        if self.reads_detector:
            values["beside.straight.weight"] = directions[:, self.map_numbers :] / BESIDE_SCALE
        for name, value in values.items():
            encoder.get_parameter(name).copy_(value)

    def _numbers(self, condensed: Tensor) -> Tensor:
        """Float32 (B, D) to the encoder's map, as it begins, and the detector's numbers behind it."""
        stem = condensed[:, :STEM_NUMBERS].unflatten(1, (STEM_WIDTH, MAP_SIDE**2))
        maps = torch.einsum("wc,bcp->bwp", self.channels, stem - self.channel_mean[:, None]).flatten(1)
        return torch.cat([maps, condensed[:, STEM_NUMBERS:]], dim=1) if self.reads_detector else maps

    def _reduction(self, numbers: Tensor) -> Tensor:
        """(D, D') from numbers to those that directions are sought among: all of the map's, of mean variance 1 as they
        are, and the principal ones of the detector's, to the same variance."""
        maps = torch.eye(self.map_numbers, device=numbers.device)
        if not self.reads_detector:
            return maps
        detected = numbers[:, self.map_numbers :]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, deviations, vectors = torch.pca_lowrank(detected, min(DETECTOR_DIRECTIONS, *detected.shape), niter=2)
        deviation = (deviations.square().mean() / max(1, len(detected) - 1)).sqrt()
        return torch.block_diag(maps, vectors / deviation)


def _least_noisy(first: Tensor, second: Tensor, num: int) -> Tensor:
    """Directions (D, up to `num`) of two views (N, D) that vary by 1, and most relative to the views' differences."""
    signal = torch.cov(torch.cat([first, second]).T.double())
    noise = torch.cov((first - second).T.double()) / 2
    floor = LEAST_NOISE * noise.diagonal().mean() + 1e-6 * signal.diagonal().mean()
    lower = torch.linalg.cholesky(noise + floor * torch.eye(len(noise), dtype=noise.dtype, device=noise.device))
    whitened = torch.linalg.solve_triangular(lower, signal, upper=False)
    whitened = torch.linalg.solve_triangular(lower, whitened.T, upper=False)
    ratios, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)
    ratios, vectors = ratios.flip(0)[:num], vectors.flip(1)[:, :num]
    is_found = ratios > SMALLEST_RATIO * ratios[0]
    directions = torch.linalg.solve_triangular(lower.T, vectors[:, is_found], upper=True)
    return (directions / ratios[is_found].sqrt()).float()  # whose noise, with its floor, was 1
