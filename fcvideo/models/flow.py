"""D_flow: an expression code to the motion from the face to its neutral face (supplement, figure 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fcvideo.models.layers import SLOPE, ChannelAttention, ResidualBlock, conv, conv_leaky, init_weights


def _upsample() -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


class FlowDecoder(nn.Module):
    """`widths` are the channels at 4 x 4, 8 x 8 and 16 x 16; 256, 128, 64 in the paper."""

    def __init__(self, code_dim: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        low, middle, high = widths
        self.four = nn.Sequential(
            conv(code_dim, low * 16, 1),
            nn.PixelShuffle(4),
            nn.LeakyReLU(SLOPE, inplace=True),
            ChannelAttention(low),
            conv_leaky(low, low),
        )
        self.eight = nn.Sequential(
            _upsample(),
            conv_leaky(low, middle),
            ChannelAttention(middle),
            conv_leaky(middle, middle),
            ResidualBlock(middle),
            ResidualBlock(middle),
        )
        self.sixteen = nn.Sequential(_upsample(), conv_leaky(middle, high))
        self.to_flow = nn.Conv2d(high, 2, 1, bias=False)
        init_weights(self)
        nn.init.normal_(self.to_flow.weight, 0.0, 0.05)

    def forward(self, code: Tensor) -> Tensor:
        """Codes (B, code_dim) to forward flows (B, 2, 16, 16) in normalized grid units, (-1, 1)."""
        features = self.sixteen(self.eight(self.four(code[:, :, None, None])))
        return torch.tanh(self.to_flow(features).float())
