"""Makes the clips that the benchmarks read, from any short video with a face."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def make_clip(source: Path, out: Path, size: tuple[int, int], num_frames: int, frames_per_second: int) -> None:
    """h264 of `size` (width, height): the frames of `source` over and over, fitted, with their borders drawn out."""
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", frames_per_second, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for picture in itertools.islice(_looped(source, size), num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


def _looped(source: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    while True:
        with av.open(str(source)) as container:
            for frame in container.decode(video=0):
                yield _fit(frame.to_image(), size)


def _fit(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    scale = min(size[0] / image.width, size[1] / image.height)
    width, height = round(image.width * scale), round(image.height * scale)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    borders = ((top, size[1] - height - top), (left, size[0] - width - left), (0, 0))
    return np.pad(np.asarray(image.resize((width, height))), borders, mode="edge")


def repeat_clip(clip: Path, out: Path, times: int) -> None:
    """The packets of `clip` `times` times one after the other; nothing is decoded."""
    with av.open(str(clip)) as once, av.open(str(out), "w") as container:
        pattern = once.streams.video[0]
        stream = container.add_stream_from_template(pattern)
        assert pattern.time_base is not None
        assert pattern.average_rate is not None
        length = round(Fraction(pattern.frames) / pattern.average_rate / pattern.time_base)
        for turn in range(times):
            once.seek(0)
            for packet in once.demux(pattern):
                if packet.size == 0 or packet.pts is None or packet.dts is None:  # the flush at the end
                    continue
                packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                packet.stream = stream
                container.mux(packet)
