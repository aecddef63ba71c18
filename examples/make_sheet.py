"""Draws what a model makes of the faces of a clip: input, flows, neutral, mean and rebuilt faces, a row a frame.

python examples/make_sheet.py [--video examples/astronaut.mp4] [--model facecycle-64-small] [--out sheet.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fcvideo.config import DEFAULT_MODEL
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.models.facecycle import normalize
from fcvideo.models.store import load_model
from fcvideo.training.sheets import draw_sheet
from fcvideo.video.inputs import resolve_inputs
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", default=str(Path(__file__).parent / "astronaut.mp4"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--out", default="sheet.png")
    parser.add_argument("--rows", type=int, default=4, help="An even number of frames, spread over the clip.")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    config = model.config
    framing = Framing.of(config)
    (source,) = resolve_inputs([arguments.video])
    frames = [frame.image for segment in plan_segments(source) for frame in read_frames(segment)]
    detect, crops = FaceDetector(), []
    for number in np.linspace(0, len(frames) - 1, arguments.rows).round().astype(int):
        image = frames[number]
        if image is not None and len(faces := detect([image])[0].boxes):
            crops.append(crop_face(image, crop_affine(faces[0], config.image_side, framing), config.image_side))
    images = normalize(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
    sheet = Image.fromarray(draw_sheet(model, images).permute(1, 2, 0).numpy())
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
