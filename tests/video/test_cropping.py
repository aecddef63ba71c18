"""Of a picture that its container crops, what is left is shown: by `clap` in MP4, by PixelCrop in Matroska."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from fcvideo.video.cropping import Crop, container_crop
from fcvideo.video.inputs import Source
from fcvideo.video.probe import probe
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments

WIDTH, HEIGHT = 128, 96
CROP = Crop(32, 16, 16, 24)


def write(path: Path, rotation_deg: int = 0) -> Path:
    """Green, with a frame of red around it where CROP cuts."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 0] = 255
    picture[CROP.top : HEIGHT - CROP.bottom, CROP.left : WIDTH - CROP.right] = (0, 255, 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 5, 5, 6
        for pts in range(3):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def add_clap(path: Path) -> None:
    """Into the sample entry, for a file whose index comes last; all boxes around it grow."""
    width, height = WIDTH - CROP.left - CROP.right, HEIGHT - CROP.top - CROP.bottom
    right, down = CROP.left - CROP.right, CROP.top - CROP.bottom  # twice the offsets
    clap = box(b"clap", struct.pack(">8i", width, 1, height, 1, right, 2, down, 2))
    data = bytearray(path.read_bytes())
    at = {kind: data.find(kind) - 4 for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")}
    assert at[b"moov"] > data.find(b"mdat")
    at[b"avc1"] = data.find(b"avc1", at[b"stsd"]) - 4
    end = at[b"avc1"] + int.from_bytes(data[at[b"avc1"] : at[b"avc1"] + 4])
    for start in at.values():
        data[start : start + 4] = struct.pack(">I", int.from_bytes(data[start : start + 4]) + len(clap))
    data[end:end] = clap
    path.write_bytes(data)


def add_pixel_crop(path: Path) -> None:
    """In the place of the colors' element, which is as long with the rest left void."""
    data = bytearray(path.read_bytes())
    start = data.find(b"\x55\xb0", data.rfind(b"\x16\x54\xae\x6b"))
    size = 3 + (data[start + 2] & 0x7F)
    kinds = b"\x54\xcc", b"\x54\xbb", b"\x54\xdd", b"\x54\xaa"
    sides = b"".join(kind + b"\x81" + bytes([side]) for kind, side in zip(kinds, CROP, strict=True))
    void = size - len(sides)
    assert void >= 2
    data[start : start + size] = sides + b"\xec" + bytes([0x80 | (void - 2)]) + bytes(void - 2)
    path.write_bytes(data)


def shown(path: Path) -> list[np.ndarray]:
    source = Source(str(path), path.name)
    return [frame.image for segment in plan_segments(source) for frame in read_frames(segment, is_exact=True)]


@pytest.mark.parametrize(("name", "add"), [("a.mp4", add_clap), ("a.mov", add_clap), ("a.mkv", add_pixel_crop)])
@pytest.mark.parametrize("rotation_deg", [0, 90])
def test_what_the_container_crops_is_not_shown(
    tmp_path: Path, name: str, add: Callable[[Path], None], rotation_deg: int
) -> None:
    path = write(tmp_path / name, rotation_deg)
    assert container_crop(Source(str(path), name)) is None
    assert shown(path)[0].shape in ((HEIGHT, WIDTH, 3), (WIDTH, HEIGHT, 3))
    add(path)
    assert container_crop(Source(str(path), name)) == CROP
    images = shown(path)
    info = probe(Source(str(path), name))
    assert len(images) == 3
    assert images[0].shape == (info.height, info.width, 3)
    assert sorted(images[0].shape[:2]) == [56, 80]
    for image in images:
        assert np.abs(image[1:-1, 1:-1].astype(int) - (0, 255, 0)).max() < 12  # colors run over at the border
    assert images[0].flags.c_contiguous


def test_a_crop_that_leaves_nothing_is_none() -> None:
    assert Crop(60, 0, 60, 0).window(100, 80) == (0, 0, 100, 80)
    assert Crop(10, 5, 20, 0).window(100, 80) == (10, 5, 80, 80)


def test_a_damaged_index_is_no_error_here(tmp_path: Path) -> None:
    for name, add in (("a.mp4", add_clap), ("a.mkv", add_pixel_crop)):
        path = write(tmp_path / name)
        add(path)
        data = path.read_bytes()
        random = np.random.default_rng(0)
        for _ in range(300):
            broken = bytearray(data[: int(random.integers(1, len(data)))])
            for at in random.integers(0, len(broken), 40):
                broken[at] = int(random.integers(0, 256))
            path.write_bytes(broken)
            crop = container_crop(Source(str(path), name))
            assert crop is None or min(crop) >= 0
