"""The face mesh network with its weights, which find lips and eyelids where the detector's landmarks end.

The weights are weights/face_mesh.safetensors, which weights/convert_face_mesh.py made from MediaPipe's file.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from fcvideo.models.face_mesh import FaceMesh

WEIGHTS = Path(__file__).parent / "weights" / "face_mesh.safetensors"


def load_face_mesh(device: str | torch.device = "cpu") -> FaceMesh:
    model = FaceMesh()
    model.load_state_dict(load_file(WEIGHTS))  # stored in half precision
    return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
