"""Principal components of the stem's features over the training faces: where encoders above the stem begin, and what
an expression code is asked to tell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcvideo.models.encoder import DETECTOR_NUMBERS, DETECTOR_SIDE, MAP_SIDE, STEM_WIDTH, StemEncoder

SMALLEST_VARIANCE = 1e-5  # of a component, relative to the first one's; less is rounding
NUM_DETECTED = 128  # components of the detector's features
CODE_DEVIATION = 0.35  # of each number of a code that starts at a component: tanh is nearly straight there


class PrincipalComponents(nn.Module):
    """Features of conv4_1 to `num` uncorrelated numbers of mean 0 and variance 1, linear in features pooled to 4 x 4.

    First the channels are reduced to `width` of theirs, then all positions together. Zero until `fit` is called.
    """

    channel_mean: Tensor
    channels: Tensor
    mean: Tensor
    directions: Tensor

    def __init__(self, width: int, num: int) -> None:
        super().__init__()
        self.register_buffer("channel_mean", torch.zeros(STEM_WIDTH))
        self.register_buffer("channels", torch.zeros(width, STEM_WIDTH))  # of mean variance 1
        self.register_buffer("mean", torch.zeros(width * MAP_SIDE**2))
        self.register_buffer("directions", torch.zeros(num, width * MAP_SIDE**2))  # of variance 1

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, 512, H, W) to components (B, num), float32."""
        with torch.autocast(features.device.type, enabled=False):
            return (self._map(pool(features)) - self.mean) @ self.directions.T

    @torch.no_grad()
    def fit(self, pooled: Tensor) -> None:
        """Takes the directions from features (N, 512, 4, 4) of faces, see `pool`; what they cannot give stays zero."""
        variances, vectors = _principal(pooled.permute(0, 2, 3, 1).flatten(0, 2), len(self.channels))
        self.channel_mean.copy_(pooled.mean(dim=(0, 2, 3)))
        self.channels.copy_(vectors / variances.mean().sqrt())
        maps = self._map(pooled)
        self.mean.copy_(maps.mean(dim=0))
        variances, vectors = _principal(maps, len(self.directions))
        found = variances > SMALLEST_VARIANCE * variances[0]
        self.directions[: len(found)][found] = vectors[found] / variances[found].sqrt()[:, None]

    def telling(self) -> nn.Linear:
        """A layer that tells these components from a code that starts at them."""
        layer = nn.Linear(len(self.directions), len(self.directions))
        nn.init.zeros_(layer.bias)
        with torch.no_grad():
            layer.weight.copy_(torch.eye(len(self.directions)) / CODE_DEVIATION)
        return layer

    @torch.no_grad()
    def start(self, encoder: StemEncoder) -> None:
        """Sets the encoder's straight way to these components; its other ways begin at zero."""
        values = {
            "project.weight": self.channels[:, :, None, None],
            "project.bias": -self.channels @ self.channel_mean,
            "straight.weight": CODE_DEVIATION * self.directions,
            "straight.bias": -CODE_DEVIATION * self.directions @ self.mean,
        }
        for name, value in values.items():
            encoder.get_parameter(name).copy_(value)
        encoder.silence_beside()
        for layer in (encoder.last_of_map, encoder.last_of_code):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def _map(self, pooled: Tensor) -> Tensor:
        centered = pooled - self.channel_mean[:, None, None]
        return torch.einsum("wc,bchv->bwhv", self.channels, centered).flatten(1)


class DetectorComponents(nn.Module):
    """The detector's features to `NUM_DETECTED` uncorrelated numbers of mean 0 and variance 1. Zero until `fit`."""

    mean: Tensor
    directions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(DETECTOR_NUMBERS))
        self.register_buffer("directions", torch.zeros(NUM_DETECTED, DETECTOR_NUMBERS))

    def forward(self, features: Tensor) -> Tensor:
        """Features of `DetectorStem` (B, 128, H, W) to components (B, NUM_DETECTED), float32."""
        with torch.autocast(features.device.type, enabled=False):
            return (F.adaptive_avg_pool2d(features.float(), DETECTOR_SIDE).flatten(1) - self.mean) @ self.directions.T

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Takes the directions from features (N, 128, H, W) of faces."""
        numbers = F.adaptive_avg_pool2d(features.float(), DETECTOR_SIDE).flatten(1)
        self.mean.copy_(numbers.mean(dim=0))
        num = min(NUM_DETECTED, *numbers.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, deviations, vectors = torch.pca_lowrank(numbers, num, niter=3)
        deviations = deviations / max(1, len(numbers) - 1) ** 0.5
        found = deviations > SMALLEST_VARIANCE**0.5 * deviations[0]
        self.directions[:num][found] = (vectors / deviations).T[found]


def pool(features: Tensor) -> Tensor:
    """Features (B, C, H, W) averaged to (B, C, 4, 4), float32."""
    return F.adaptive_avg_pool2d(features.float(), MAP_SIDE)


def _principal(x: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Variances (num,) and unit vectors (num, D) of the rows' (N, D) largest components, largest first."""
    variances, vectors = torch.linalg.eigh(torch.cov(x.T.double()))
    return variances.flip(0)[:num].float(), vectors.flip(1).T[:num].float()
