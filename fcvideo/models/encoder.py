"""E_exp and E_id: a face to a 256-d code (supplement, figure 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fcvideo.models.layers import ChannelAttention, ResidualBlock, conv_leaky, init_weights


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
        self.stage16 = nn.Sequential(
            conv_leaky(middle, high, 3, 2),
            conv_leaky(high, high),
            conv_leaky(high, high, 3, image_side // 64),  # 128 pixels: stride 2, so that the map stays 4 x 4
            conv_leaky(high, map_width),
        )
        self.head = nn.Sequential(
            nn.Linear(map_width * 16, hidden), nn.LeakyReLU(0.1, inplace=True), nn.Linear(hidden, code_dim)
        )
        init_weights(self)

    def feature_map(self, images: Tensor) -> Tensor:
        """The last convolution's output (B, map_width, 4, 4); flattened, it is what the authors probed."""
        return self.stage16(self.stage8(self.stage4(self.stage2(images))))

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images (B, 3, S, S) to codes (B, code_dim) in [-1, 1]."""
        return torch.tanh(self.head(self.feature_map(images).flatten(1)).float())
