"""Fixtures for all tests: the shared development material, where it is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.made_media import make_media, make_people

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks, several processes: threads cost more than they bring

SHARED = Path(__file__).resolve().parents[2] / "shared"  # development material beside the checkout


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos by the names of the development material: its own, or the like of them, made."""
    if SHARED.is_dir():
        return SHARED / "media"
    return make_media(tmp_path_factory.mktemp("made") / "media")


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of ready crops of many faces: the development material's, or made."""
    if SHARED.is_dir():
        return SHARED / "data" / "people-dev.parquet"
    return make_people(tmp_path_factory.mktemp("made") / "people.parquet")


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """Writes a small video whose frames show their number, see `write_video`; `frame_number` reads it back."""
    return write_video


def write_video(
    path: Path,
    num_frames: int = 30,
    rate: int = 25,
    size: tuple[int, int] = (64, 48),
    pts: Sequence[int] | None = None,
    codec: str = "h264",
    gop: int = 12,
    b_frames: int = 0,
    rotation_deg: int = 0,
    is_mirrored: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """`pts` in 1/1000 s, strictly increasing: variable rate, gaps, a late start; by default `rate` from 0.

    A player must turn the pictures `rotation_deg` counter-clockwise, then mirror them left-right if `is_mirrored`.
    """
    if pts is None:
        pts = [round(1000 * i / rate) for i in range(num_frames)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.options = {
            **({"preset": "ultrafast", "bf": str(b_frames)} if codec == "h264" else {}),
            **(options or {}),
        }
        if rotation_deg or is_mirrored:
            stream.set_display_rotation(rotation_deg, hflip=is_mirrored)
        for number, frame_pts in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number, size), format="rgb24")
            frame.pts, frame.time_base = frame_pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered_picture(number: int, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3): eight upright bars, the bits of number mod 256 from the left, lowest first."""
    width, height = size
    bit = np.arange(width) * 8 // width
    row = np.where(number % 256 >> bit & 1, 224, 32).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def frame_number(image: np.ndarray) -> int:
    """The number, mod 256, that a frame of `write_video` shows."""
    width = image.shape[1]
    centers = (np.arange(8) * 2 + 1) * width // 16
    bits = image[:, centers].mean(axis=(0, 2)) > 128
    return int((bits << np.arange(8)).sum())


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG-19 weights of the right shapes, random: what `--vgg` takes where ImageNet's are not at hand."""
    import torch
    from safetensors.torch import save_file

    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
    shapes |= {12: (256, 256), 14: (256, 256), 16: (256, 256), 19: (512, 256)}
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for number, (channels_out, channels_in) in shapes.items():
        deviation = (2 / (9 * channels_in)) ** 0.5
        weight = torch.randn(channels_out, channels_in, 3, 3, generator=generator) * deviation
        weights[f"features.{number}.weight"] = weight.half()
        weights[f"features.{number}.bias"] = torch.zeros(channels_out).half()
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="session")
def crops_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of ready crops: 12 clips of 4 smooth color pictures, each clip one picture that moves."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = []
    for clip in range(12):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        wide = coarse.resize((128, 128), Image.Resampling.BICUBIC)
        for frame in range(4):
            left, top = (int(v) for v in rng.integers(0, 32, size=2))
            data = io.BytesIO()
            wide.crop((left, top, left + 96, top + 96)).save(data, "JPEG")
            rows.append({"source": "s", "person": str(clip // 2), "clip": str(clip), "frame": frame})
            rows[-1]["jpeg"] = data.getvalue()
    path = tmp_path_factory.mktemp("crops") / "crops.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights, all of FaceCycle but narrow: milliseconds a face."""
    import torch

    from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig
    from fcvideo.models.store import save_model

    config = FaceCycleConfig(
        encoder_widths=(16, 16, 16),
        map_width=8,
        hidden=32,
        flow_widths=(16, 16, 16),
        stem="conv2_1",
        decoder_width=16,
        up_width=16,
        expression_blocks=1,
        identity_blocks=1,
        inpainting_noise=0.0,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(FaceCycle(config), folder)
    return folder
