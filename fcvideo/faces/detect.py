"""Finds the faces of pictures with YuNet: onnxruntime on the CPU, the torch module of `yunet` elsewhere, same boxes.

Cropping is `crop`'s part, who is who over time `track`'s.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

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
# A face that fills the picture, or lies in the dark, is often found in a smaller picture only.
SMALL_SCALE, SMALL_LONG_SIDE = 0.5, 320
WEAK_SCORE = 0.8  # where no face comes to this, the smaller picture is worth its time
Scales = Literal["one", "two", "two where weak"]


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

    With two `scales` a picture is searched again at half that size or less, always or where no face was found with
    WEAK_SCORE; of boxes on the same face the better one stays. `threads` are onnxruntime's, on the CPU. What is found
    in a picture does not depend on the others of its batch.
    """

    def __init__(
        self,
        device: str = "cpu",
        min_face_px: float = 20,
        score_threshold: float = 0.7,
        overlap_threshold: float = 0.3,
        long_side: int = 640,
        threads: int = 1,
        scales: Scales = "one",
    ) -> None:
        self.scales = scales
        self.min_face_px = min_face_px
        self.score_threshold = score_threshold
        self.overlap_threshold = overlap_threshold
        self.long_side = long_side
        self.network: Network = OnnxNetwork(threads) if device == "cpu" else TorchNetwork(device)

    def __call__(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """`images`: uint8 RGB (H, W, 3), of any sizes. Largest face first, equal areas from left to right."""
        canvases = [self._shrunk(image) for image in images]
        maps = self.network(map(_padded, canvases))
        found = [self._find(m, image, planes) for m, image, planes in zip(maps, images, canvases, strict=True)]
        if self.scales != "one":
            again = [place for place, faces in enumerate(found) if self._is_worth_more(faces)]
            small = [_shrink(canvases[place], *small_size(*canvases[place].shape[1:])) for place in again]
            for place, m, planes in zip(again, self.network(map(_padded, small)), small, strict=True):
                found[place] = self._merge(found[place], self._find(m, images[place], planes))
        return [self._in_order(faces) for faces in found]

    def _is_worth_more(self, faces: Faces) -> bool:
        return self.scales == "two" or float(faces.scores.max(initial=0)) < WEAK_SCORE

    def _shrunk(self, image: np.ndarray) -> np.ndarray:
        """The picture at the network's size, uint8 (3, H, W)."""
        assert image.dtype == np.uint8, image.dtype
        assert image.ndim == 3, image.shape
        size = network_size(image.shape[0], image.shape[1], self.min_face_px, self.long_side)
        return _shrink(np.ascontiguousarray(image).transpose(2, 0, 1), *size)

    def _find(self, maps: list[np.ndarray], image: np.ndarray, planes: np.ndarray) -> Faces:
        """Faces in pixels of `image`, in which the network has seen `planes`."""
        scale = np.array([image.shape[1] / planes.shape[2], image.shape[0] / planes.shape[1]], np.float32)
        boxes, scores, landmarks = decode(maps, self.score_threshold)
        kept = suppress(boxes, scores, self.overlap_threshold)
        return Faces(boxes[kept] * np.tile(scale, 2), scores[kept], landmarks[kept] * scale)

    def _merge(self, faces: Faces, others: Faces) -> Faces:
        boxes, scores, landmarks = (
            np.concatenate(pair) for pair in zip(vars(faces).values(), vars(others).values(), strict=True)
        )
        kept = suppress(boxes, scores, self.overlap_threshold)
        return Faces(boxes[kept], scores[kept], landmarks[kept])

    def _in_order(self, faces: Faces) -> Faces:
        boxes = faces.boxes
        large = np.flatnonzero(boxes[:, 3] >= self.min_face_px)
        order = large[np.lexsort((boxes[large, 0], -boxes[large, 2] * boxes[large, 3]))]
        return Faces(boxes[order], faces.scores[order], faces.landmarks[order])


def _shrink(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (3, height, width) of (3, H, W)."""
    if planes.shape[1:] == (height, width):
        return planes
    # 720p to 640 x 360: 0.6 ms here, 2.7 in Pillow, 1.4 in numpy.
    return F.interpolate(torch.from_numpy(planes)[None], (height, width), mode="bilinear", antialias=True)[0].numpy()


def _padded(planes: np.ndarray) -> np.ndarray:
    """Zeros right and below, up to multiples of 32."""
    _, height, width = planes.shape
    canvas = np.zeros((3, -(-height // 32) * 32, -(-width // 32) * 32), np.uint8)
    canvas[:, :height, :width] = planes
    return canvas


def small_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the second search of a picture that was first searched at this size."""
    scale = min(SMALL_SCALE, SMALL_LONG_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


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
