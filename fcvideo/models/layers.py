"""The blocks that every network of FaceCycle is built from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SLOPE = 0.1  # of LeakyReLU, everywhere (supplement, section 1)


def conv(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Convolution with 'same' padding."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)


def conv_leaky(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(in_channels, out_channels, kernel, stride), nn.LeakyReLU(SLOPE, inplace=True))


def conv_relu(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(conv(in_channels, out_channels, kernel), nn.ReLU(inplace=True))


def up_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """Transposed convolution that doubles height and width."""
    return nn.Sequential(nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two convolutions around an identity, without normalization (supplement, figure 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.conv2(self.activation(self.conv1(x))))


class ChannelAttention(nn.Module):
    """Self-attention between channels instead of pixels (supplement, figure 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = conv(channels, channels, 1)
        self.theta = conv(channels, channels, 1)
        self.phi = conv(channels, channels, 1)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape, by a C x C similarity."""
        theta = self.theta(x).flatten(2).softmax(dim=-1)  # over pixels
        similarity = self.phi(x).flatten(2) @ theta.transpose(1, 2)  # (B, C, C)
        attention = similarity @ self.g(x).flatten(2).softmax(dim=1)  # over channels
        return self.activation(x + attention.view_as(x))


def init_weights(module: nn.Module) -> None:
    """Convolutions N(0, sqrt(2 / (k k C_out))), linear layers N(0, 0.01), biases 0 (released code)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def init_fan_in(module: nn.Module) -> None:
    """He's initialization by fan-in (Xavier's in attention), under which activations keep their size.

    With the released code's, activations shrink at every widening layer, and the codes of different faces start
    (and, on small data, stay) almost equal.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in module.modules():
        if isinstance(layer, ChannelAttention):
            for convolution in (layer.g, layer.theta, layer.phi):
                nn.init.xavier_normal_(convolution.weight)


def channels_mean(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, 1, 1)."""
    return torch.mean(x, dim=(2, 3), keepdim=True)
