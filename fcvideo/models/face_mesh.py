"""MediaPipe's face mesh network as plain torch modules: 468 points of one face, lips and eyelids among them."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

SIDE_PX = 192  # of the input
NUM_POINTS = 468
WIDTHS = (16, 32, 64, 128, 128)  # of the trunk's levels, from 1/2 to 1/32 of the input


class Block(nn.Module):
    """A separable convolution and its input; with `stride` 2 the input shrinks by its maxima, and new channels begin
    at 0."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, padding=2 - stride, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        self.activation = nn.PReLU(out_channels)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        found = self.pointwise(self.depthwise(x if self.stride == 1 else _pad(x)))
        if self.stride == 2:
            x = F.max_pool2d(x, 2)
        if found.shape[1] > x.shape[1]:
            x = F.pad(x, (0, 0, 0, 0, 0, found.shape[1] - x.shape[1]))
        return self.activation(x + found)


class FaceMesh(nn.Module):
    """604,685 parameters; Kartynnik et al. 2019, "Real-time Facial Surface Geometry from Monocular Video"."""

    def __init__(self) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        for before, width in itertools.pairwise(WIDTHS):
            levels += [Block(before, before), Block(before, before), Block(before, width, 2)]
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTHS[0], 3, 2), nn.PReLU(WIDTHS[0]))
        self.trunk = nn.Sequential(*levels, Block(128, 128), Block(128, 128))
        self.points = nn.Sequential(Block(128, 128, 2), Block(128, 128), Block(128, 128), *_head(3 * NUM_POINTS))
        self.presence = nn.Sequential(Block(128, 128, 2), *_head(1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """RGB in [0, 1] (B, 3, 192, 192), an upright face of which fills two thirds, to its points (B, 468, 3), x, y
        and depth in pixels, and to how sure it is that this is a face (B,), in [0, 1]."""
        x = self.trunk(self.stem(_pad(images)))
        points = self.points(x).float().unflatten(1, (NUM_POINTS, 3))[..., 0, 0]
        return points, self.presence(x).float().flatten().sigmoid()


def _head(num: int) -> list[nn.Module]:
    return [nn.Conv2d(128, 32, 1), nn.PReLU(32), Block(32, 32), nn.Conv2d(32, num, 3)]


def _pad(x: Tensor) -> Tensor:
    """For 3 x 3 at stride 2: one pixel right and below."""
    return F.pad(x, (0, 1, 0, 1))
