"""E_exp and E_id: a face to a 256-d code (supplement, figure 2), from its pixels or from the stem's features of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcvideo.models.layers import ChannelAttention, ResidualBlock, conv_leaky, init_weights
from fcvideo.models.yunet import STEM_CHANNELS

STEM_WIDTH = 512  # of VGG-19's conv4_1, at 1/8 of the picture
DETECTOR_SIDE, DETECTOR_HIDDEN = 8, 128
DETECTOR_NUMBERS = STEM_CHANNELS * DETECTOR_SIDE**2
BESIDE_SCALE = 0.03  # of so many numbers: at 1 and Adam's learning rate 3e-4 codes saturated within 100 steps
MAP_SIDE = 4  # of the last map


class Encoder(nn.Module):
    """16 layers, `stageN` at 1/N of the picture.

    `widths` are the channels at 1/2, at 1/4 and 1/8, and at 1/16; 64, 128, 256 in the paper.
    """

    def __init__(
        self, widths: tuple[int, int, int], map_width: int, hidden: int, code_dim: int, image_side: int
    ) -> None:
        super().__init__()
        low, middle, high = widths
        self.stage2 = nn.Sequential(
            conv_leaky(3, low, 7, 2),
            conv_leaky(low, low),
            conv_leaky(low, low),
            ChannelAttention(low),
            conv_leaky(low, low),
        )
        self.stage4 = nn.Sequential(
            conv_leaky(low, middle, 3, 2),
            ChannelAttention(middle),
            conv_leaky(middle, middle),
            ResidualBlock(middle),
            ResidualBlock(middle),
        )
        self.stage8 = nn.Sequential(conv_leaky(middle, middle, 3, 2), conv_leaky(middle, middle))
        self.stage16 = _to_map(middle, high, map_width, image_side)
        self.head = _to_code(map_width, hidden, code_dim)
        init_weights(self)

    def feature_map(self, images: Tensor) -> Tensor:
        """The last convolution's output (B, map_width, 4, 4); flattened, it is what the authors probed."""
        return self.stage16(self.stage8(self.stage4(self.stage2(images))))

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images (B, 3, S, S) to codes (B, code_dim) in [-1, 1]."""
        return torch.tanh(self.head(self.feature_map(images).flatten(1)).float())


class StemEncoder(nn.Module):
    """An encoder above the frozen stem's conv4_1 instead of layers of its own down to 1/8 of the picture.

    Map and code are each a linear function of what is below plus what the paper's layers make of it. On few faces
    it reads expression, pose and identity far better than an encoder that starts from pixels.
    """

    def __init__(
        self, width: int, map_width: int, hidden: int, code_dim: int, image_side: int, reads_detector: bool = False
    ) -> None:
        super().__init__()
        self.project = nn.Conv2d(STEM_WIDTH, map_width, 1)
        self.stage8 = nn.Sequential(conv_leaky(STEM_WIDTH, width), conv_leaky(width, width))
        self.stage16 = _to_map(width, width, map_width, image_side)
        self.straight = nn.Linear(map_width * MAP_SIDE**2, code_dim)
        self.head = _to_code(map_width, hidden, code_dim)
        self.beside = Beside(code_dim) if reads_detector else None
        init_weights(self)

    @property
    def last_of_map(self) -> nn.Conv2d:
        layer = self.stage16.get_submodule("3.0")
        assert isinstance(layer, nn.Conv2d)
        return layer

    @property
    def last_of_code(self) -> nn.Linear:
        layer = self.head.get_submodule("2")
        assert isinstance(layer, nn.Linear)
        return layer

    def silence_beside(self) -> None:
        """What the detector brings to the code becomes zero, until trained."""
        for layer in () if self.beside is None else (self.beside.straight, self.beside.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def feature_map(self, features: Tensor) -> Tensor:
        """As `Encoder.feature_map`, of conv4_1 (B, 512 or more, S/8, S/8)."""
        features = features[:, :STEM_WIDTH]
        straight = pool(self.project(features))
        return straight + self.stage16(self.stage8(features))

    def forward(self, features: Tensor) -> Tensor:
        """Features of conv4_1, and behind them the detector's, (B, 512 or 640, S/8, S/8), to codes (B, code_dim) in
        [-1, 1]."""
        flat = self.feature_map(features).flatten(1)
        code = self.straight(flat) + self.head(flat)
        if self.beside is not None:
            code = code + self.beside(detector_numbers(features[:, STEM_WIDTH:]))
        return torch.tanh(code.float())


class Beside(nn.Module):
    """The detector's features to a part of the code, past the map."""

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        self.straight = nn.Linear(DETECTOR_NUMBERS, code_dim)
        self.first = nn.Linear(DETECTOR_NUMBERS, DETECTOR_HIDDEN)
        self.last = nn.Linear(DETECTOR_HIDDEN, code_dim)

    def forward(self, numbers: Tensor) -> Tensor:
        """`detector_numbers` (B, 8192) to (B, code_dim)."""
        numbers = BESIDE_SCALE * numbers
        return self.straight(numbers) + self.last(F.leaky_relu(self.first(numbers), 0.1))


def pool(features: Tensor) -> Tensor:
    """(B, C, H, W) averaged to the last map's (B, C, 4, 4)."""
    return F.adaptive_avg_pool2d(features, MAP_SIDE)


def detector_numbers(detected: Tensor) -> Tensor:
    """The detector's features (B, 128, S/8, S/8), at 8 x 8 places: (B, 8192)."""
    return F.adaptive_avg_pool2d(detected, DETECTOR_SIDE).flatten(1)


def _to_map(channels: int, high: int, map_width: int, image_side: int) -> nn.Sequential:
    return nn.Sequential(
        conv_leaky(channels, high, 3, 2),
        conv_leaky(high, high),
        conv_leaky(high, high, 3, image_side // 64),  # 128 pixels: stride 2, so that the map stays 4 x 4
        conv_leaky(high, map_width),
    )


def _to_code(map_width: int, hidden: int, code_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(map_width * MAP_SIDE**2, hidden), nn.LeakyReLU(0.1, inplace=True), nn.Linear(hidden, code_dim)
    )
