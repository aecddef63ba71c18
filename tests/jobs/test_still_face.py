"""A still head gives a still head, by the default model: the boxes' jitter and the picture's noise stay out."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np
from PIL import Image

from fcvideo.config import DEFAULT_MODEL
from fcvideo.video.random_access import FrameGrabber
from tests.conftest import SHARED
from tests.jobs.rendering import pictures_of, run_frontalize, run_reenact

NUM_FRAMES, NOISE = 75, 3.0  # three seconds; deviation in gray levels
SHARE_LEFT = 0.3 if SHARED.is_dir() else 0.4  # of the noise; the made portrait is sharper than footage


def write_still_video(path: Path, picture: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    height, width, _ = picture.shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 25, options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(NUM_FRAMES):
            noisy = np.clip(picture + rng.normal(0, NOISE, picture.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy)))
        container.mux(stream.encode(None))
    return path


def change(video: Path) -> float:
    """Mean absolute difference from frame to frame, in gray levels."""
    pictures = [picture.astype(np.float32) for picture in pictures_of(video)]
    assert len(pictures) == NUM_FRAMES
    return float(np.mean([np.abs(one - other).mean() for one, other in itertools.pairwise(pictures)]))


def test_a_still_face_stays_still(tmp_path: Path, media: Path):
    with FrameGrabber(str(media / "lp_d12.mp4")) as grabber:
        (frame,) = grabber.frames([1.0])
    assert frame.image is not None
    small = np.array(Image.fromarray(frame.image).resize((256, 256)))
    still = write_still_video(tmp_path / "still.mp4", small)
    flags = {"model": Path(DEFAULT_MODEL), "lossless": True, "size": 128, "compose": "crop"}
    run_reenact(still, media / "lp_s29.mp4", out=str(tmp_path / "reenacted.mp4"), **flags)
    run_frontalize(still, out=str(tmp_path / "frontal.mp4"), **flags)
    assert change(tmp_path / "reenacted.mp4") < SHARE_LEFT * change(still)
    assert change(tmp_path / "frontal.mp4") < change(still)
