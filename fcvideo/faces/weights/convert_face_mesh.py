"""Makes face_mesh.safetensors of face_landmark.tflite, which the package mediapipe 0.10.14 holds in modules/.

pip install tflite && python convert_face_mesh.py face_landmark.tflite
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tflite
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fcvideo.models.face_mesh import FaceMesh

KINDS = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}


class Graph:
    def __init__(self, path: str) -> None:
        self.model = tflite.Model.GetRootAsModel(Path(path).read_bytes(), 0)
        self.graph = self.model.Subgraphs(0)
        operators = [self.graph.Operators(i) for i in range(self.graph.OperatorsLength())]
        self.maker = {int(operator.OutputsAsNumpy()[0]): operator for operator in operators}

    def kind(self, tensor: int) -> str:
        if tensor not in self.maker:
            return "INPUT"
        code = self.model.OperatorCodes(self.maker[tensor].OpcodeIndex())
        return KINDS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]

    def inputs(self, tensor: int) -> list[int]:
        return [int(i) for i in self.maker[tensor].InputsAsNumpy()]

    def constant(self, tensor: int) -> np.ndarray:
        """A weight, stored in half precision."""
        while self.kind(tensor) == "DEQUANTIZE":
            (tensor,) = self.inputs(tensor)
        found = self.graph.Tensors(tensor)
        return self.model.Buffers(found.Buffer()).DataAsNumpy().view(np.float16).reshape(found.ShapeAsNumpy())

    def path(self, tensor: int) -> list[int]:
        """Tensors that layers with weights made, from the input to `tensor`, without the ways around blocks."""
        found: list[int] = []
        while self.kind(tensor) != "INPUT":
            if self.kind(tensor) == "ADD":
                tensor = next(t for t in self.inputs(tensor) if self.kind(t) == "CONV_2D")
                continue
            found.append(tensor)
            tensor = self.inputs(tensor)[0]
        return found[::-1]

    def weights(self, tensor: int) -> list[Tensor]:
        """Of the layer that made it, as torch orders them."""
        arrays = [torch.from_numpy(self.constant(i).copy()) for i in self.inputs(tensor)[1:]]
        if self.kind(tensor) == "PRELU":
            return [arrays[0].flatten()]
        order = (3, 0, 1, 2) if self.kind(tensor) == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
        return [arrays[0].permute(order).contiguous(), *arrays[1:]]


def main(path: str) -> None:
    graph, model, state = Graph(path), FaceMesh(), dict[str, Tensor]()
    points, presence = (graph.path(int(tensor)) for tensor in graph.graph.OutputsAsNumpy())
    heads = {"points": points, "presence": presence}
    for head, tensors in heads.items():
        layers = _layers(nn.ModuleDict({name: model.get_submodule(name) for name in ("stem", "trunk", head)}))
        for (name, layer), tensor in zip(layers, tensors, strict=True):
            names = [f"{name}.{key}" for key, _ in layer.named_parameters(recurse=False)]
            state |= dict(zip(names, graph.weights(tensor), strict=True))
    model.load_state_dict(state)
    save_file(state, Path(__file__).parent / "face_mesh.safetensors")


def _layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.PReLU)]


if __name__ == "__main__":
    main(*sys.argv[1:])
