"""D_exp and D_id: from the stem's features back to a face (supplement, figures 4 and 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcvideo.models.layers import ResidualBlock, channels_mean, conv, conv_relu, up_relu
from fcvideo.models.warp import warp

Features = tuple[Tensor, Tensor]  # fine (B, C, S/2, S/2) and coarse (B, C', S/4, S/4)


class InPainting(nn.Module):
    """What the warp cannot bring: a residue from the map's global average and noise (released code).

    In training the noise is drawn anew; in evaluation it is one fixed draw, so that the same
    picture gives the same bytes, in any batch.
    """

    def __init__(self, channels: int, side: int, noise: float) -> None:
        super().__init__()
        self.fixed_noise: Tensor
        self.layers = nn.Sequential(conv_relu(channels, channels), conv_relu(channels, channels))
        self.side, self.noise = side, noise
        fixed = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0)) if noise else None
        self.register_buffer("fixed_noise", fixed, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        average = channels_mean(features)
        if not self.noise:
            return self._paint_evenly(average)
        average = average.expand(-1, -1, self.side, self.side)
        noise = torch.randn_like(average) if self.training else self.fixed_noise
        return self.layers(average + self.noise * noise)

    def _paint_evenly(self, average: Tensor) -> Tensor:
        """A constant map comes out constant but for two pixels along the border: five by five pixels tell all."""
        patch = self.layers(average.expand(-1, -1, 5, 5))
        place = torch.arange(self.side, device=patch.device)
        index = place.clamp(max=2) + (place - self.side + 3).clamp(min=0)
        return patch[:, :, index[:, None], index]


class ExpressionDecoder(nn.Module):
    """D_exp (equations 5 and 6): features, warped by a flow or as they are, to a face."""

    def __init__(
        self, stem_widths: tuple[int, int], width: int, up_width: int, blocks: int, image_side: int, noise: float
    ) -> None:
        super().__init__()
        fine, coarse = stem_widths
        narrow_fine, narrow_coarse = min(fine, up_width), min(coarse, width)
        # 1 x 1 convolutions that the published sizes do not need
        self.narrow_fine = nn.Identity() if narrow_fine == fine else conv(fine, narrow_fine, 1)
        self.narrow_coarse = nn.Identity() if narrow_coarse == coarse else conv(coarse, narrow_coarse, 1)
        self.paint_fine = InPainting(narrow_fine, image_side // 2, noise)
        self.paint_coarse = InPainting(narrow_coarse, image_side // 4, noise)
        self.reduce = conv_relu(narrow_coarse, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.up1 = nn.Sequential(up_relu(width, up_width), conv_relu(up_width, up_width))
        self.up2 = nn.Sequential(up_relu(narrow_fine + up_width, up_width), conv_relu(up_width, up_width))
        self.to_rgb = conv(up_width, 3)

    def forward(self, features: Features, flow: Tensor | None) -> Tensor:
        """Flow (B, 2, h, w) in grid units, or None for a plain reconstruction; normalized faces (B, 3, S, S)."""
        fine, coarse = self.narrow_fine(features[0]), self.narrow_coarse(features[1])
        if flow is not None:
            fine = warp(fine, flow) + self.paint_fine(fine)
            coarse = warp(coarse, flow) + self.paint_coarse(coarse)
        x = self.up1(self.blocks(self.reduce(coarse)))
        return self.to_rgb(self.up2(torch.cat([fine.to(x.dtype), x], dim=1))).float()


class Modulation(nn.Module):
    """Instance normalization whose scale and shift come from the code (equations 10 and 11)."""

    def __init__(self, code_dim: int, channels: int) -> None:
        super().__init__()
        self.shift = nn.Conv2d(code_dim, channels, 1)
        self.scale = nn.Conv2d(code_dim, channels, 1)

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        code = code[:, :, None, None]
        return F.instance_norm(features) * self.scale(code) + self.shift(code)


class IdentityDecoder(nn.Module):
    """D_id with MLP_de and MLP_re (equations 10 to 12): takes the identity off a neutral face, or puts it on."""

    def __init__(self, coarse_width: int, code_dim: int, width: int, up_width: int, blocks: int) -> None:
        super().__init__()
        narrow = min(coarse_width, width)
        self.narrow = nn.Identity() if narrow == coarse_width else conv(coarse_width, narrow, 1)
        self.de_identity = Modulation(code_dim, narrow)
        self.re_identity = Modulation(code_dim, narrow)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.up = nn.Sequential(up_relu(width, up_width), conv_relu(up_width, up_width), up_relu(up_width, up_width))
        self.to_rgb = conv(up_width, 3, 1)

    def forward(self, coarse: Tensor, code: Tensor, modulation: Modulation) -> Tensor:
        """Coarse features of a neutral or a mean face to the normalized face (B, 3, S, S)."""
        return self.to_rgb(self.up(self.blocks(modulation(self.narrow(coarse), code)))).float()
