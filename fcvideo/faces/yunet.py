"""YuNet with its weights, for the GPU and for training; `detect` decodes what it returns.

The weights are weights/yunet.safetensors, which weights/convert_yunet.py made from OpenCV's file.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from fcvideo.models.yunet import YuNet

WEIGHTS = Path(__file__).parent / "weights" / "yunet.safetensors"


def load_yunet(device: str | torch.device = "cpu") -> YuNet:
    model = YuNet()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
