"""One stage of embed or of reenact alone, over the frames of one clip; prints a JSON object with what it took.

python benchmarks/stages.py decode|detect|encode|codes|generate|write CLIP MODEL

The jobs' own parts, one thread each. Only the stage's own work is timed; what must come before it is not. Detection
includes cutting out the faces, `codes` is `encode` without the cycle error, generation includes cutting and code; the
clip's first face is its target.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.models.store import load_config
from fcvideo.rendering.renderer import Moment, Rendering, make_renderer
from fcvideo.rendering.target import Target
from fcvideo.survey.encoding import Encoding, FaceEncoder
from fcvideo.survey.reading import CHUNK_FACES
from fcvideo.video.inputs import resolve_inputs
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments
from fcvideo.video.write import Coding, SegmentWriter

BLOCK_FRAMES = 32
SIZE_PX, WRITTEN_RATE = 256, 30


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
    framing = Framing.of(config)
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
    if stage in ("encode", "codes"):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        precision = "float16" if device == "cuda" else "float32"
        encoder = FaceEncoder(Encoding(model, precision, None, stage == "encode", True, Path()), device, threads=1)
        encoder.encode(np.array(crops[:CHUNK_FACES]))  # warm
        with encoding:
            for start in range(0, len(crops), CHUNK_FACES):
                encoder.encode(np.array(crops[start : start + CHUNK_FACES]))
    clocks = {"decode": decoding, "detect": detecting, "encode": encoding, "codes": encoding}
    return clocks[stage], num_frames, len(crops)


def measure_rendering(stage: str, clip: str, model: str) -> tuple[Clock, int, int]:
    """The same of making reenacted squares, or of writing them."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = "float16" if device == "cuda" else "float32"
    detector, renderer, num_frames = FaceDetector(min_face_px=40), None, 0
    decoding, generating, writing = Clock(), Clock(), Clock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "written.mp4"
        with SegmentWriter(path, SIZE_PX, SIZE_PX, Fraction(1, WRITTEN_RATE), Coding()) as writer:
            for block in read_blocks(clip, decoding):
                boxes = [faces.boxes[0] for faces in detector(block)]
                moments = [
                    Moment(image, image, box, 1.0, None, number)
                    for number, (image, box) in enumerate(zip(block, boxes, strict=True))
                ]
                if renderer is None:
                    target = Target(clip, block[0], boxes[0], None)
                    renderer = make_renderer(
                        Rendering("reenact", model, precision, "crop", SIZE_PX, target=target), device
                    )
                    renderer.render(moments)  # warm
                with generating:
                    pictures = renderer.render(moments)
                with writing:
                    for picture in pictures:
                        writer.write(picture, num_frames, 1)
                        num_frames += 1
    return {"generate": generating, "write": writing}[stage], num_frames, num_frames


if __name__ == "__main__":
    chosen = measure_rendering if sys.argv[1] in ("generate", "write") else measure
    clock, num_frames, num_faces = chosen(*sys.argv[1:])
    took = {"seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds}
    print(json.dumps(took | {"frames": num_frames, "faces": num_faces}))
