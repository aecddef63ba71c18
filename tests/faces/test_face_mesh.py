from pathlib import Path

import numpy as np
import torch

from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.face_mesh import load_face_mesh
from fcvideo.models.face_mesh import NUM_POINTS, SIDE_PX
from fcvideo.video.inputs import resolve_inputs
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "astronaut.mp4"
# Points of the sample's first frame by number, as LiteRT 2 computes them of MediaPipe's own file.
REFERENCE = {
    1: (93.56, 107.52, -25.37),  # the nose's tip
    13: (94.28, 119.37, -5.95),  # the upper lip's lower edge
    14: (94.15, 128.45, -2.74),
    33: (62.39, 72.82, 5.02),
    61: (70.81, 115.96, 9.52),
    152: (91.84, 159.33, 11.28),  # the chin
    263: (133.01, 76.62, 2.88),
    291: (120.47, 118.43, 7.74),
}


def test_points_are_those_of_the_original_network() -> None:
    (source,) = resolve_inputs([str(SAMPLE)])
    frame = next(iter(read_frames(plan_segments(source)[0]))).image
    assert frame is not None
    crop = crop_face(frame, crop_affine(np.array([114, 52, 78, 99]), SIDE_PX, Framing(1.5, (0.5, 0.5))), SIDE_PX)
    pictures = torch.stack([torch.from_numpy(crop).permute(2, 0, 1) / 255, torch.full((3, SIDE_PX, SIDE_PX), 0.5)])
    points, scores = load_face_mesh()(pictures)
    assert points.shape == (2, NUM_POINTS, 3)
    found = points[0, list(REFERENCE)]
    assert (found - torch.tensor(list(REFERENCE.values()))).abs().max() < 0.02  # decoders differ by a grey level
    assert scores[0] > 0.99
    assert scores[1] < 0.5
