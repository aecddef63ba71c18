"""Makes yunet.onnx and yunet.safetensors, in this folder, out of OpenCV's face_detection_yunet_2023mar.onnx.

    pip install onnx && python fcvideo/faces/weights/convert_yunet.py face_detection_yunet_2023mar.onnx

The original is in the OpenCV model zoo (github.com/opencv/opencv_zoo, models/face_detection_yunet; MIT licence), and in
tests/faces of this repository, where it is the reference.

The arithmetic stays YuNet's. What changes: pictures of any size (the original is fixed at 640 x 640), uint8 RGB
instead of float BGR, and one head per level in place of four. Of no use at run time.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent
ORIGINAL_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
Weights = dict[str, np.ndarray]

BACKBONE = {
    "stage0": "backbone.model0.conv2",
    **{f"stage{i}.{j}": f"backbone.model{i}.conv{j + 1}" for i in range(1, 6) for j in range(2)},
    **{f"laterals.{i}": f"neck.lateral_convs.{i}" for i in range(3)},
}


def read_weights(original: onnx.ModelProto) -> Weights:
    """Weights under the names of `fcvideo.models.yunet.YuNet`.

    The original names only the layers that no batch normalisation was folded into: a depthwise layer is known
    as the one that reads what a named pointwise layer wrote.
    """
    tensors = {item.name: numpy_helper.to_array(item) for item in original.graph.initializer}
    layers = [node for node in original.graph.node if node.op_type == "Conv"]
    by_name = {node.input[1]: node for node in layers}
    by_source = {node.input[0]: node for node in layers if "conv1.weight" not in node.input[1]}

    def pair(name: str) -> list[np.ndarray]:
        pointwise = by_name[f"{name}.conv1.weight"]
        depthwise = by_source[pointwise.output[0]]
        return [tensors[key] for node in (pointwise, depthwise) for key in node.input[1:]]

    keys = ("pointwise.weight", "pointwise.bias", "depthwise.weight", "depthwise.bias")
    weights = {"stem.weight": tensors[layers[0].input[1]][:, ::-1], "stem.bias": tensors[layers[0].input[2]]}
    for ours, theirs in BACKBONE.items():
        weights |= {f"{ours}.{key}": value for key, value in zip(keys, pair(theirs), strict=True)}
    for level in range(3):
        heads = [pair(f"bbox_head.multi_level_{kind}.{level}") for kind in ("cls", "obj", "bbox", "kps")]
        for key, values in zip(keys, zip(*heads, strict=True), strict=True):
            weights[f"heads.{level}.{key}"] = np.concatenate(values)
    return {name: np.ascontiguousarray(value) for name, value in weights.items()}


class Graph:
    """The nodes of the new file, written in the order of `YuNet.forward`; an operation returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def add(self, operation: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{operation.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def conv(self, x: str, name: str, **attributes: Any) -> str:
        return self.add("Conv", x, f"{name}.weight", f"{name}.bias", **attributes)

    def separable(self, x: str, name: str, channels: int = 64) -> str:
        x = self.conv(x, f"{name}.pointwise")
        return self.conv(x, f"{name}.depthwise", group=channels, pads=[1, 1, 1, 1])

    def stage(self, x: str, index: int, channels: tuple[int, int] = (64, 64)) -> str:
        for j, count in enumerate(channels):
            x = self.add("Relu", self.separable(x, f"stage{index}.{j}", count))
        return x

    def lateral(self, x: str, index: int) -> str:
        return self.add("Relu", self.separable(x, f"laterals.{index}"))

    def pool(self, x: str) -> str:
        return self.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def double(self, x: str) -> str:
        return self.add(
            "Resize", x, "", "twice", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )


def build(weights: Weights) -> onnx.ModelProto:
    graph = Graph()
    x = graph.add("Cast", "image", to=TensorProto.FLOAT)
    x = graph.add("Relu", graph.conv(x, "stem", strides=[2, 2], pads=[1, 1, 1, 1]))
    x = graph.pool(graph.add("Relu", graph.separable(x, "stage0", 16)))
    x = graph.pool(graph.stage(graph.stage(x, 1, (16, 32)), 2, (32, 64)))
    at_8 = graph.stage(x, 3)
    at_16 = graph.stage(graph.pool(at_8), 4)
    at_32 = graph.lateral(graph.stage(graph.pool(at_16), 5), 2)
    at_16 = graph.lateral(graph.add("Add", at_16, graph.double(at_32)), 1)
    at_8 = graph.lateral(graph.add("Add", at_8, graph.double(at_16)), 0)
    outputs = []
    for level, features in enumerate((at_8, at_16, at_32)):
        head = graph.separable(features, f"heads.{level}", 16)
        outputs.append(graph.add("Transpose", head, output=f"stride{8 << level}", perm=[0, 2, 3, 1]))
    constants = weights | {"twice": np.array([1, 1, 2, 2], np.float32)}
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "yunet",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, "height", "width"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, 16]) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=7,
        producer_name="fcvideo",
    )


def main() -> None:
    data = Path(sys.argv[1]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == ORIGINAL_SHA256
    weights = read_weights(onnx.load_from_string(data))
    save_file(weights, FOLDER / "yunet.safetensors")
    model = build(weights)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, FOLDER / "yunet.onnx")


if __name__ == "__main__":
    main()
