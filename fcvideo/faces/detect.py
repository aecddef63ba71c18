"""Finds the faces of pictures with YuNet: onnxruntime on the CPU, the torch module of `yunet` elsewhere, same boxes.

Cropping is `crop`'s part, who is who over time `track`'s.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from torch.nn import functional as F

from fcvideo.faces.yunet import load_yunet
from fcvideo.models.yunet import STRIDES

ONNX_FILE = Path(__file__).parent / "weights" / "yunet.onnx"
# Height in pixels at which the network is shown the smallest face wanted. Of 133 real faces shrunk to 10, 12,
# 16, 20 and 24 px, YuNet finds 2, 14, 61, 100 and 125 at score 0.7, and 32, 59, 112, 127 and 130 at 0.3.
SMALLEST_SHOWN_PX = 20


@dataclass(frozen=True)
class Faces:
    """The faces of one picture, in its pixels, the largest box first."""

    boxes: np.ndarray  # (N, 4) float32: x, y of the upper left corner, width, height; may reach over the border
    scores: np.ndarray  # (N,) float32, 0 to 1
    landmarks: np.ndarray  # (N, 5, 2) float32: eyes, nose, corners of the mouth; the picture's left one first

    def __len__(self) -> int:
        return len(self.boxes)


class Network(Protocol):
    """Pictures uint8 RGB (3, H, W), sides multiples of 32, to raw maps float32 (H / s, W / s, 16), s of STRIDES."""

    def __call__(self, pictures: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]: ...


class FaceDetector:
    """Faces at least `min_face_px` high, in pictures shrunk to `long_side` or less, as far as such a face allows.

    `threads` are onnxruntime's, on the CPU. What is found in a picture does not depend on the others of its batch.
    """

    def __init__(
        self,
        device: str = "cpu",
        min_face_px: float = 20,
        score_threshold: float = 0.7,
        overlap_threshold: float = 0.3,
        long_side: int = 640,
        threads: int = 1,
    ) -> None:
        self.min_face_px = min_face_px
        self.score_threshold = score_threshold
        self.overlap_threshold = overlap_threshold
        self.long_side = long_side
        self.network: Network = OnnxNetwork(threads) if device == "cpu" else TorchNetwork(device)

    def __call__(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """`images`: uint8 RGB (H, W, 3), of any sizes. Largest face first, equal areas from left to right."""
        maps = self.network(self._shrink(image) for image in images)
        return [self._faces(m, image.shape[0], image.shape[1]) for image, m in zip(images, maps, strict=True)]

    def _shrink(self, image: np.ndarray) -> np.ndarray:
        """The picture at the network's size, zeros right and below up to multiples of 32."""
        assert image.dtype == np.uint8, image.dtype
        assert image.ndim == 3, image.shape
        height, width = network_size(image.shape[0], image.shape[1], self.min_face_px, self.long_side)
        planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        if planes.shape[1:] != (height, width):
            # 720p to 640 x 360: 0.6 ms here, 2.7 in Pillow, 1.4 in numpy.
            planes = F.interpolate(planes[None], (height, width), mode="bilinear", antialias=True)[0]
        canvas = np.zeros((3, -(-height // 32) * 32, -(-width // 32) * 32), np.uint8)
        canvas[:, :height, :width] = planes.numpy()
        return canvas

    def _faces(self, maps: list[np.ndarray], height: int, width: int) -> Faces:
        network_height, network_width = network_size(height, width, self.min_face_px, self.long_side)
        scale = np.array([width / network_width, height / network_height], np.float32)
        boxes, scores, landmarks = decode(maps, self.score_threshold)
        kept = suppress(boxes, scores, self.overlap_threshold)
        boxes = boxes[kept] * np.tile(scale, 2)
        large = np.flatnonzero(boxes[:, 3] >= self.min_face_px)
        order = large[np.lexsort((boxes[large, 0], -boxes[large, 2] * boxes[large, 3]))]
        return Faces(boxes[order], scores[kept][order], landmarks[kept][order] * scale)


def network_size(height: int, width: int, min_face_px: float, long_side: int) -> tuple[int, int]:
    """Height and width at which a picture is searched: `long_side`, more where the smallest face would come out
    under SMALLEST_SHOWN_PX, and never more than the picture has.
    """
    scale = min(1.0, max(long_side / max(height, width), SMALLEST_SHOWN_PX / min_face_px))
    return max(1, round(height * scale)), max(1, round(width * scale))


def decode(maps: Sequence[np.ndarray], score_threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (N, 4), scores (N,), landmarks (N, 5, 2) in network pixels, before suppression; float32.

    Channels of a map: class and objectness logits, offset and log size of the box in strides, five landmark offsets.
    """
    boxes, scores, landmarks = [], [], []
    for stride, cells in zip(STRIDES, maps, strict=True):
        chances = 1 / (1 + np.exp(-cells[..., :2].clip(-80, 80)))
        cell_scores = np.sqrt(chances.prod(axis=2))
        rows, columns = np.nonzero(cell_scores >= score_threshold)
        found = cells[rows, columns]
        corner = np.stack([columns, rows], axis=1).astype(np.float32)
        size = np.exp(found[:, 4:6]) * stride
        boxes.append(np.concatenate([(corner + found[:, 2:4]) * stride - size / 2, size], axis=1))
        scores.append(cell_scores[rows, columns])
        landmarks.append((corner[:, None] + found[:, 6:].reshape(-1, 5, 2)) * stride)
    return np.concatenate(boxes), np.concatenate(scores), np.concatenate(landmarks)


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap_threshold: float) -> np.ndarray:
    """Which boxes (N, 4) stay, the best score first, when none may overlap a better one (IoU) by more.

    torchvision has it too, but takes 0.8 s of every reading process to import.
    """
    near, far, areas = boxes[:, :2], boxes[:, :2] + boxes[:, 2:], boxes[:, 2] * boxes[:, 3]
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        sides = np.minimum(far[best], far[waiting]) - np.maximum(near[best], near[waiting])
        shared = np.maximum(sides, 0).prod(axis=1)
        waiting = waiting[shared <= overlap_threshold * (areas[best] + areas[waiting] - shared)]
    return np.array(kept, np.int64)


class OnnxNetwork:
    def __init__(self, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(ONNX_FILE, options, providers=["CPUExecutionProvider"])

    def __call__(self, pictures: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        for picture in pictures:  # one by one: a batch is no faster on a CPU
            yield [m[0] for m in self._session.run(None, {"image": picture[None]})]


class TorchNetwork:
    """Always `batch_size` pictures, missing ones as zeros: the kernels that a GPU's library chooses, and with them the
    last digits of a box, depend on the size of the batch.
    """

    def __init__(self, device: str, batch_size: int = 8) -> None:
        self._model = load_yunet(device)
        self._device = device
        self._batch_size = batch_size

    def __call__(self, pictures: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        for _, alike in itertools.groupby(pictures, key=np.shape):
            while some := list(itertools.islice(alike, self._batch_size)):
                yield from self._run(some)

    def _run(self, pictures: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
        batch = np.zeros((self._batch_size, *pictures[0].shape), np.uint8)
        batch[: len(pictures)] = pictures
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            images = torch.from_numpy(batch).to(self._device).to(torch.float32, memory_format=torch.channels_last)
            maps = [m.permute(0, 2, 3, 1).cpu().numpy() for m in self._model(images)]
        for i in range(len(pictures)):
            yield [m[i] for m in maps]
