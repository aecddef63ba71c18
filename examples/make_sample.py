"""Makes astronaut.mp4 beside this file: four seconds of a slowly moving camera over a NASA portrait.

pip install fcvideo scikit-image && python examples/make_sample.py
"""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import skimage.data
from PIL import Image

OUT = Path(__file__).with_name("astronaut.mp4")
NUM_FRAMES, FRAMES_PER_SECOND, SIDE_PX = 100, 25, 320


def view(portrait: Image.Image, moment: float) -> Image.Image:
    """The picture of the camera at `moment`, 0 to 1: it comes closer, sways to the sides and rolls a little."""
    phase = 2 * math.pi * moment
    window_px = 370 - 80 * math.sin(math.pi * moment) ** 2
    roll = math.radians(6) * math.sin(phase)
    reach = window_px / 2 * (math.cos(roll) + abs(math.sin(roll)))  # half the square around the rolled window
    center = np.array([232 + 18 * math.sin(phase), reach + 4 + 8 * math.sin(phase / 2)])
    assert (center >= reach).all(), "the window leaves the portrait"
    scale = window_px / SIDE_PX
    axes = scale * np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    corner = center - axes @ [SIDE_PX / 2, SIDE_PX / 2]
    affine = (*axes[0], corner[0], *axes[1], corner[1])
    return portrait.transform((SIDE_PX, SIDE_PX), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)


def main() -> None:
    portrait = Image.fromarray(skimage.data.astronaut())
    with av.open(str(OUT), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", FRAMES_PER_SECOND, options={"crf": "26", "preset": "slow"})
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the same file wherever it is made with the same encoder
        for index in range(NUM_FRAMES):
            picture = view(portrait, index / (NUM_FRAMES - 1))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    print(f"{OUT}: {OUT.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
