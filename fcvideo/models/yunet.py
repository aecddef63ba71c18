"""YuNet, the face detector's network, as plain torch modules: whole, and the part that an encoder may read."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)
HEAD_CHANNELS = 16  # class, objectness, box (4), landmarks (5 x 2)
STEM_CHANNELS = 128  # of `DetectorStem`
ENLARGED = 2  # times that `DetectorStem` shows the picture
SCALE_8, SCALE_16 = 2.5, 7.0  # to a deviation of about 1 over faces


class Separable(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, is_activated: bool = True) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        self.depthwise = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels)
        self.is_activated = is_activated

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.pointwise(x))
        return x.relu_() if self.is_activated else x


class Backbone(nn.Module):
    """The layers from the picture to 1/16 of it; the first takes RGB."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.stage0 = Separable(16, 16)
        self.stage1 = nn.Sequential(Separable(16, 16), Separable(16, 32))
        self.stage2 = nn.Sequential(Separable(32, 32), Separable(32, 64))
        self.stage3 = nn.Sequential(Separable(64, 64), Separable(64, 64))
        self.stage4 = nn.Sequential(Separable(64, 64), Separable(64, 64))

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """RGB 0..255 float (B, 3, H, W), sides multiples of 32, to 64 channels at 1/8 and at 1/16 of it."""
        x = F.max_pool2d(self.stage0(self.stem(images).relu_()), 2)
        at_8 = self.stage3(F.max_pool2d(self.stage2(self.stage1(x)), 2))
        return at_8, self.stage4(F.max_pool2d(at_8, 2))


class YuNet(Backbone):
    """53,104 parameters. The four heads of a level are one convolution here."""

    def __init__(self) -> None:
        super().__init__()
        self.stage5 = nn.Sequential(Separable(64, 64), Separable(64, 64))
        self.laterals = nn.ModuleList(Separable(64, 64) for _ in STRIDES)
        self.heads = nn.ModuleList(Separable(64, HEAD_CHANNELS, is_activated=False) for _ in STRIDES)

    def forward(self, images: Tensor) -> list[Tensor]:
        """RGB 0..255 float (B, 3, H, W), sides multiples of 32, to raw maps (B, 16, H / s, W / s), s of STRIDES."""
        at_8, at_16 = self.features(images)
        at_32 = self.laterals[2](self.stage5(F.max_pool2d(at_16, 2)))
        at_16 = self.laterals[1](at_16 + F.interpolate(at_32, scale_factor=2.0))
        at_8 = self.laterals[0](at_8 + F.interpolate(at_16, scale_factor=2.0))
        return [head(x) for head, x in zip(self.heads, (at_8, at_16, at_32), strict=True)]


class DetectorStem(Backbone):
    """A second frozen stem: what the detector makes of a face crop knows where a head turns better than VGG-19 does.

    Weights are random until `load` is called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)

    def load(self, yunet: YuNet) -> None:
        own = self.state_dict()
        self.load_state_dict({name: value for name, value in yunet.state_dict().items() if name in own})

    def forward(self, images: Tensor) -> Tensor:
        """RGB 0..255 float (B, 3, S, S) to (B, 128, S / 8, S / 8)."""
        enlarged = F.interpolate(images, scale_factor=float(ENLARGED), mode="bilinear", align_corners=False)
        at_8, at_16 = self.features(enlarged)
        return torch.cat([SCALE_16 * at_16, SCALE_8 * F.avg_pool2d(at_8, 2)], dim=1)
