"""One stage of embed alone, over the frames of one clip; prints a JSON object with what it took.

python benchmarks/stages.py decode|detect|encode CLIP MODEL

Embed's own parts, one thread each. Only the stage's own work is timed; what must come before it is not. Detection
includes cutting out the faces.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.jobs.encoding import Encoding, FaceEncoder
from fcvideo.jobs.reading import CHUNK_FACES
from fcvideo.models.store import load_config
from fcvideo.video.inputs import resolve_inputs
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments

BLOCK_FRAMES = 32


@dataclass
class Clock:
    """Adds up wall and CPU time of the stretches inside `with`."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start[0]
        self.cpu_seconds += time.process_time() - self._start[1]


def read_blocks(clip: str, clock: Clock) -> Iterator[list[np.ndarray]]:
    """The clip's pictures, `clock` counting what decoding and converting them took."""
    (source,) = resolve_inputs([clip], None)
    frames = (
        frame.image for segment in plan_segments(source) for frame in read_frames(segment) if frame.image is not None
    )
    while True:
        with clock:
            block = list(itertools.islice(frames, BLOCK_FRAMES))
        if not block:
            return
        yield block


def measure(stage: str, clip: str, model: str) -> tuple[Clock, int, int]:
    """Clock, number of frames, number of faces."""
    torch.set_num_threads(1)
    config = load_config(model)
    framing = Framing(config.framing_side_factor, config.framing_center)
    detector = FaceDetector(min_face_px=40)
    decoding, detecting, encoding = Clock(), Clock(), Clock()
    num_frames, crops = 0, []
    for block in read_blocks(clip, decoding):
        num_frames += len(block)
        if stage == "decode":
            continue
        if num_frames == len(block):
            detector(block)  # warm
        with detecting:
            for image in block:
                for box in detector([image])[0].boxes:
                    crops.append(crop_face(image, crop_affine(box, config.image_side, framing), config.image_side))
    if stage == "encode":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        precision = "float16" if device == "cuda" else "float32"
        encoder = FaceEncoder(Encoding(model, precision, None, True, True, Path()), device, threads=1)
        encoder.encode(np.array(crops[:CHUNK_FACES]))  # warm
        with encoding:
            for start in range(0, len(crops), CHUNK_FACES):
                encoder.encode(np.array(crops[start : start + CHUNK_FACES]))
    return {"decode": decoding, "detect": detecting, "encode": encoding}[stage], num_frames, len(crops)


if __name__ == "__main__":
    clock, num_frames, num_faces = measure(*sys.argv[1:])
    took = {"seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds}
    print(json.dumps(took | {"frames": num_frames, "faces": num_faces}))
