"""YuNet as a plain torch module, the face detector's network for the GPU; `detect` decodes what it returns.

The weights are weights/yunet.safetensors, which weights/convert_yunet.py made from OpenCV's file.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

WEIGHTS = Path(__file__).parent / "weights" / "yunet.safetensors"
STRIDES = (8, 16, 32)
HEAD_CHANNELS = 16  # class, objectness, box (4), landmarks (5 x 2)


class Separable(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, is_activated: bool = True) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        self.depthwise = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels)
        self.is_activated = is_activated

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.pointwise(x))
        return x.relu_() if self.is_activated else x


class YuNet(nn.Module):
    """53,104 parameters. The four heads of a level are one convolution here; the first layer takes RGB."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.stage0 = Separable(16, 16)
        self.stage1 = nn.Sequential(Separable(16, 16), Separable(16, 32))
        self.stage2 = nn.Sequential(Separable(32, 32), Separable(32, 64))
        self.stage3 = nn.Sequential(Separable(64, 64), Separable(64, 64))
        self.stage4 = nn.Sequential(Separable(64, 64), Separable(64, 64))
        self.stage5 = nn.Sequential(Separable(64, 64), Separable(64, 64))
        self.laterals = nn.ModuleList(Separable(64, 64) for _ in STRIDES)
        self.heads = nn.ModuleList(Separable(64, HEAD_CHANNELS, is_activated=False) for _ in STRIDES)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """RGB 0..255 float (B, 3, H, W), sides multiples of 32, to raw maps (B, 16, H / s, W / s), s of STRIDES."""
        x = F.max_pool2d(self.stage0(self.stem(images).relu_()), 2)
        x = F.max_pool2d(self.stage2(self.stage1(x)), 2)
        at_8 = self.stage3(x)
        at_16 = self.stage4(F.max_pool2d(at_8, 2))
        at_32 = self.laterals[2](self.stage5(F.max_pool2d(at_16, 2)))
        at_16 = self.laterals[1](at_16 + F.interpolate(at_32, scale_factor=2.0))
        at_8 = self.laterals[0](at_8 + F.interpolate(at_16, scale_factor=2.0))
        return [head(x) for head, x in zip(self.heads, (at_8, at_16, at_32), strict=True)]


def load_yunet(device: str | torch.device = "cpu") -> YuNet:
    model = YuNet()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
