"""Runs `fcvideo reenact --compose panel` on the sample and lays some instants of the result under each other.

python examples/make_strip.py [--source examples/astronaut.mp4] [--target examples/astronaut.mp4] [--out reenacted.jpg]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from fcvideo.config import DEFAULT_MODEL
from fcvideo.video.random_access import FrameGrabber

SAMPLE = Path(__file__).parent / "astronaut.mp4"
SECONDS = (0.8, 1.6, 2.4, 3.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=str(SAMPLE))
    parser.add_argument("--target", default=str(SAMPLE))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--out", default="reenacted.jpg")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "panel.mp4"
        command = [sys.executable, "-m", "fcvideo", "reenact", "--source", arguments.source]
        options = ["--target", arguments.target, "--model", arguments.model, "--compose", "panel", "--size", "192"]
        subprocess.run([*command, *options, "--out", str(video)], check=True)
        with FrameGrabber(str(video)) as grabber:
            panels = [frame.image for frame in grabber.frames(SECONDS)]
    Image.fromarray(np.concatenate([panel for panel in panels if panel is not None])).save(arguments.out, quality=88)


if __name__ == "__main__":
    main()
