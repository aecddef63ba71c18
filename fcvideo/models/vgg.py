"""The part of ImageNet's VGG-19 that FaceCycle uses: the decoders' frozen stem and the perceptual features."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcvideo.errors import ModelError

Layer = Literal["conv1_2", "conv2_1", "conv3_1", "conv4_1"]

# name: (number in torchvision's `vgg19().features`, channels in, channels out)
_CONVOLUTIONS = {
    "conv1_1": (0, 3, 64),
    "conv1_2": (2, 64, 64),
    "conv2_1": (5, 64, 128),
    "conv2_2": (7, 128, 128),
    "conv3_1": (10, 128, 256),
    "conv3_2": (12, 256, 256),
    "conv3_3": (14, 256, 256),
    "conv3_4": (16, 256, 256),
    "conv4_1": (19, 256, 512),
}
NAMES = tuple(_CONVOLUTIONS)


class VGG19(nn.Module):
    """VGG-19 up to `last`, frozen. Weights are random until `load` is called."""

    def __init__(self, last: Layer) -> None:
        super().__init__()
        self.names = NAMES[: NAMES.index(last) + 1]
        self.convolutions = nn.ModuleDict(
            {name: nn.Conv2d(_CONVOLUTIONS[name][1], _CONVOLUTIONS[name][2], 3, 1, 1) for name in self.names}
        )
        self.requires_grad_(False)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Takes `load_vgg`'s weights (torchvision's names); deeper layers than this stem's are left aside."""
        for name in self.names:
            number = _CONVOLUTIONS[name][0]
            for kind in ("weight", "bias"):
                self.convolutions[name].get_parameter(kind).data.copy_(weights[f"features.{number}.{kind}"])

    def forward(self, images: Tensor, layers: Iterable[str]) -> list[Tensor]:
        """ImageNet-normalized images (B, 3, S, S) to the features after the ReLU of each of `layers`."""
        wanted = list(layers)
        found: dict[str, Tensor] = {}
        x = images
        for name in self.names:
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = F.relu(self.convolutions[name](x), inplace=True)
            if name in wanted:
                found[name] = x
                if len(found) == len(wanted):
                    break
        return [found[name] for name in wanted]


def load_vgg(file: str | Path | None = None) -> dict[str, Tensor]:
    """VGG-19's weights by torchvision's names (`features.0.weight` ..), conv1_1 to conv4_1 at least, float32.

    From `file` (.safetensors, or a state dict saved by torch), else torchvision's pretrained download.
    Errors: ModelError when there is neither, or the file lacks a layer or has one of another shape.
    """
    weights = _read_weights(Path(file)) if file is not None else _download_weights()
    for name, (number, channels_in, channels_out) in _CONVOLUTIONS.items():
        key, expected = f"features.{number}.weight", (channels_out, channels_in, 3, 3)
        found = tuple(weights[key].shape) if key in weights else None
        if found != expected or f"features.{number}.bias" not in weights:
            raise ModelError(f"{file}: {name} ({key}) has shape {found}, expected {expected} of VGG-19")
    return {key: value.float() for key, value in weights.items()}


def _read_weights(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ModelError(f"{file}: no such file of VGG-19 weights")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception:  # each reader has exceptions of its own, and long advice
        raise ModelError(f"{file}: found no weights, expected a safetensors file or a torch state dict") from None


def _download_weights() -> dict[str, Tensor]:
    from torchvision.models import VGG19_Weights

    try:
        return dict(VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True))
    except OSError as error:  # urllib's errors are OSErrors
        raise ModelError(
            f"no VGG-19 weights: torchvision could not download them ({error}); give a file with --vgg FILE"
        ) from None
