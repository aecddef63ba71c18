"""HDR and wide colors come out as a BT.709 screen shows them; the expected values are computed backwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest

from fcvideo.video.inputs import Source
from fcvideo.video.picture import RgbConverter
from fcvideo.video.random_access import FrameGrabber
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments
from fcvideo.video.still import read_still
from fcvideo.video.tone import WideColors, bt709_of

PQ, HLG, SDR, BT2020 = 16, 18, 1, 9
FROM_BT709 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # to BT.2020
PATCHES = np.array([(200, 120, 90), (60, 60, 60), (30, 90, 170), (150, 150, 150), (120, 40, 30), (0, 0, 0)])
SIDE = 64


def pq_signal(light: np.ndarray) -> np.ndarray:
    """Of light where 1 is 203 nits."""
    power = (light * 203 / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def signal(rgb: np.ndarray, trc: int) -> np.ndarray:
    """(N, 3) levels on a BT.709 screen -> (N, 3) signal in BT.2020, 0 to 1."""
    light = (rgb / 255) ** 2.4
    if trc == PQ:
        return pq_signal(light @ FROM_BT709.T)
    if trc == HLG:  # the curve is of the brightest BT.709 channel
        brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
        wide = (light / (1 - brightest)) @ FROM_BT709.T * 203 / 1000
        scene = wide ** (1 / 1.2)
        logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)
    return (light @ FROM_BT709.T) ** (1 / 2.4)


def frame_of(rgb: np.ndarray) -> av.VideoFrame:
    """Patches side by side in limited range, BT.2020, 10 bits."""
    luma = rgb @ (0.2627, 0.6780, 0.0593)
    blue, red = (rgb[:, 2] - luma) / 1.8814, (rgb[:, 0] - luma) / 1.4746
    planes = 4 * (16 + 219 * luma), 4 * (128 + 224 * blue), 4 * (128 + 224 * red)
    frame = av.VideoFrame(SIDE * len(rgb), SIDE, "yuv420p10le")
    for plane, levels, width in zip(frame.planes, planes, (SIDE, SIDE // 2, SIDE // 2), strict=True):
        row = np.repeat(np.round(levels).astype(np.uint16), width)
        padded = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        padded[:, : len(row)] = row
        plane.update(padded.tobytes())
    return frame


def write(path: Path, trc: int, codec: str, *pictures: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"x265-params": "lossless=1:log-level=none"})
        stream.width, stream.height, stream.pix_fmt = SIDE * len(PATCHES), SIDE, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = BT2020, trc, BT2020, 1
        for pts, rgb in enumerate(pictures):
            frame = frame_of(signal(rgb, trc))
            frame.pts = pts
            frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = BT2020, trc, BT2020, 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def centers(image: np.ndarray) -> np.ndarray:
    return image[SIDE // 2, SIDE // 2 :: SIDE].astype(int)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx265"), ("a.mkv", "ffv1")])
@pytest.mark.parametrize("trc", [PQ, HLG, SDR])
@pytest.mark.parametrize("is_exact", [False, True])
def test_hdr_and_wide_colors_look_as_they_were_graded(
    tmp_path: Path, trc: int, name: str, codec: str, is_exact: bool
) -> None:
    write(tmp_path / name, trc, codec, PATCHES, PATCHES, PATCHES)
    (segment,) = plan_segments(Source(str(tmp_path / name), name))
    for frame in read_frames(segment, is_exact=is_exact):
        assert np.abs(centers(frame.image) - PATCHES).max() <= 5


def test_highlights_are_compressed_and_keep_their_order() -> None:
    for transfer, peak in (("pq", 0.75), ("hlg", 1.0)):
        greys = np.linspace(0, peak, 64)[:, None].repeat(3, axis=1)
        levels = bt709_of(greys, WideColors(transfer, BT2020))[:, 0] * 255
        assert (np.diff(levels) > 0).all()
        assert levels[-1] > 230
    white = bt709_of(np.full((1, 3), 0.5807), WideColors("pq", BT2020))  # 203 nits
    assert 215 < white[0, 0] * 255 < 245


def test_the_curves_are_near_ffmpegs(media: Path) -> None:
    """What zscale and tonemap gave for the wall behind the face; the made videos above hold the same without them."""
    if not (media / "field" / "hlg_face.mov").exists():
        pytest.skip("no development material")
    for name, wall in (("hlg_face.mov", (224, 145, 55)), ("pq_face.mp4", (235, 152, 58))):
        (segment,) = plan_segments(Source(str(media / "field" / name), name))
        image = next(read_frames(segment)).image
        assert np.abs(image[5:40, 5:40].reshape(-1, 3).mean(axis=0) - wall).max() <= 12


def test_a_change_of_size_and_of_colors_is_followed() -> None:
    convert = RgbConverter()
    for trc, num in ((PQ, 6), (PQ, 3), (HLG, 3), (PQ, 3)):
        frame = frame_of(signal(PATCHES[:num], trc))
        frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = BT2020, trc, BT2020, 1
        assert np.abs(centers(convert(frame)) - PATCHES[:num]).max() <= 5


@pytest.mark.parametrize(("pixels", "scale"), [("gray", 1), ("gray10le", 4)])
def test_grey_of_limited_range_is_expanded(pixels: str, scale: int) -> None:
    frame = av.VideoFrame(SIDE, SIDE, pixels)
    dtype = np.uint8 if scale == 1 else np.uint16
    for level, limited, full in ((16, 0, 16), (157, 164, 157), (235, 255, 235)):
        (plane,) = frame.planes
        plane.update(np.full(plane.buffer_size // np.dtype(dtype).itemsize, level * scale, dtype).tobytes())
        for color_range, expected in ((1, limited), (2, full), (0, full)):
            frame.color_range = color_range
            assert RgbConverter()(frame)[0, 0].tolist() == [expected] * 3


def test_frames_at_given_times_are_mapped_too(tmp_path: Path) -> None:
    """A black first picture looks alike to every reader."""
    write(tmp_path / "a.mp4", PQ, "libx265", np.zeros_like(PATCHES), PATCHES, PATCHES)
    with FrameGrabber(str(tmp_path / "a.mp4")) as grabber:
        (frame,) = grabber.frames([0.05])
    assert np.abs(centers(frame.image) - PATCHES).max() <= 5


def write_heic(path: Path, trc: int) -> None:
    levels = np.round(signal(PATCHES, trc) * 65535).astype(np.uint16)
    pixels = np.repeat(np.repeat(levels[None], SIDE, axis=1), SIDE, axis=0)
    picture = pillow_heif.from_bytes("RGB;16", (SIDE * len(PATCHES), SIDE), pixels.tobytes())
    picture.save(path, quality=100, chroma=444, matrix_coefficients=9, color_primaries=9, transfer_characteristics=trc)


def write_avif(path: Path, trc: int) -> None:
    with av.open(str(path), "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=1, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = SIDE * len(PATCHES), SIDE, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = BT2020, trc, BT2020, 1
        frame = frame_of(signal(PATCHES, trc))
        frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = BT2020, trc, BT2020, 1
        container.mux([*stream.encode(frame), *stream.encode(None)])


@pytest.mark.parametrize("trc", [PQ, HLG])
@pytest.mark.parametrize("write_picture", [write_avif, write_heic])
def test_still_pictures_in_hdr_are_mapped(tmp_path: Path, trc: int, write_picture: Callable[[Path, int], None]) -> None:
    write_picture(tmp_path / "a", trc)
    assert np.abs(centers(read_still(tmp_path / "a")) - PATCHES).max() <= 12  # Pillow gives 8 bits
