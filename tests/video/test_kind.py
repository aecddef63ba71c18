"""Videos and pictures are told apart by their content, under any name; pictures that move are videos."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageDraw

from fcvideo.errors import VideoError
from fcvideo.video.container import with_kind
from fcvideo.video.inputs import Source
from fcvideo.video.kind import kind_by_content, kind_by_name
from fcvideo.video.probe import probe
from fcvideo.video.read import Frame, read_frames
from fcvideo.video.segments import plan_segments
from fcvideo.video.still import read_still

COLORS = ((200, 30, 30), (30, 160, 30), (40, 40, 210), (120, 120, 120))
DURATIONS_MS = (100, 40, 250, 80)


def read(path: Path) -> list[Frame]:
    segments = plan_segments(with_kind(Source(str(path), path.name)))
    return [frame for segment in segments for frame in read_frames(segment)]


def picture() -> Image.Image:
    """Red above blue; left and right differ, too."""
    image = Image.new("RGB", (64, 48), COLORS[0])
    ImageDraw.Draw(image).rectangle((0, 24, 64, 48), COLORS[2])
    ImageDraw.Draw(image).rectangle((0, 0, 16, 12), COLORS[1])
    return image


def save_heic(path: Path, **options: object) -> None:
    pillow_heif.from_pillow(picture()).save(path, quality=95, **({"format": "HEIF"} | options))


@pytest.mark.parametrize("name", ["a.heic", "a.jpg", "a", "a.mp4"])
def test_a_heic_is_a_picture_under_any_name(tmp_path: Path, name: str) -> None:
    save_heic(tmp_path / name)
    source = with_kind(Source(str(tmp_path / name), name))
    assert source.is_image
    info = probe(source)
    assert (info.container, info.codec, info.width, info.height) == ("image", "heif", 64, 48)
    (frame,) = read(tmp_path / name)
    assert np.abs(frame.image.astype(int) - np.asarray(picture())).mean() < 4


def test_a_turned_heic_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture().rotate(90, expand=True)
    pillow_heif.from_pillow(turned).save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    (frame,) = read(tmp_path / "a.heic")
    assert np.abs(frame.image.astype(int) - np.asarray(picture())).mean() < 4


@pytest.mark.parametrize("name", ["a.avif", "a", "a.png"])
def test_an_avif_is_a_picture_under_any_name(tmp_path: Path, name: str) -> None:
    picture().save(tmp_path / name, "AVIF", quality=95)
    (frame,) = read(tmp_path / name)
    assert np.abs(frame.image.astype(int) - np.asarray(picture())).mean() < 4


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg", "a"])
def test_a_video_is_a_video_under_any_name(tmp_path: Path, make_video: Callable[..., Path], name: str) -> None:
    made = make_video(tmp_path / "made.mp4", num_frames=5)
    made.rename(tmp_path / name)
    assert len(read(tmp_path / name)) == 5


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "GIF", "AVIF"])
@pytest.mark.parametrize("name", ["a", "a.png"])
def test_a_picture_that_moves_is_a_video_with_its_own_times(tmp_path: Path, kind: str, name: str) -> None:
    first, *others = (Image.new("RGB", (64, 48), color) for color in COLORS)
    options = {"lossless": True} if kind == "WEBP" else {}
    first.save(tmp_path / name, kind, save_all=True, append_images=others, duration=list(DURATIONS_MS), **options)
    frames = read(tmp_path / name)
    assert [tuple(frame.image[24, 32].tolist()) for frame in frames] == [
        pytest.approx(color, abs=3) for color in COLORS
    ]
    times = [frame.pts_seconds for frame in frames]
    assert times == pytest.approx([0, 0.1, 0.14, 0.39], abs=1e-3)
    if kind == "WEBP":
        info = probe(with_kind(Source(str(tmp_path / name), name)))
        assert (info.container, info.codec, info.duration_seconds) == ("webp", "webp", pytest.approx(0.47))


def test_a_webp_that_moves_is_over_white_and_may_be_damaged(tmp_path: Path) -> None:
    clear = [Image.new("RGBA", (32, 32), (*color, 0 if i else 255)) for i, color in enumerate(COLORS[:2])]
    path = tmp_path / "a.webp"
    clear[0].save(path, save_all=True, append_images=clear[1:], duration=50, lossless=True, exact=True)
    assert [frame.image[16, 16].tolist() for frame in read(path)] == [list(COLORS[0]), [255, 255, 255]]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(VideoError, match=r"damaged animation|no known"):
        read(path)


def test_a_still_webp_or_png_stays_a_picture(tmp_path: Path) -> None:
    for kind in ("PNG", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "JPEG"):
        picture().save(tmp_path / "a", kind)
        with (tmp_path / "a").open("rb") as file:
            assert kind_by_content(file, "a") == "image", kind


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.ts", "libx264")),
        *(("a.mpg", "mpeg2video"), ("a.flv", "flv1"), ("a.asf", "mpeg4"), ("a.ogv", "libvpx"), ("a.mxf", "mpeg2video")),
        *(("a.nut", "mpeg4"), ("a.mov", "mjpeg"), ("a.m2ts", "libx264")),
    ],
)
def test_containers_are_known_by_their_first_bytes(tmp_path: Path, name: str, codec: str) -> None:
    format = {"a.m2ts": "mpegts"}.get(name)
    with av.open(str(tmp_path / name), "w", format=format, options={"mpegts_m2ts_mode": "1"} if format else {}) as made:
        stream = made.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * i, np.uint8), "rgb24")
            frame.pts = i
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    assert kind_by_name(name) == "video"
    with (tmp_path / name).open("rb") as file:
        assert kind_by_content(file, "blob") == "video"


def test_text_says_nothing(tmp_path: Path) -> None:
    for text in ("", "B", "BMW is a car maker of Munich", "GIF", "RIFFRAFF and others", "x" * 2000, "P7"):
        (tmp_path / "a").write_text(text)
        with (tmp_path / "a").open("rb") as file:
            assert kind_by_content(file, "a") is None, text


def test_pictures_in_a_row_are_a_video_by_name(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.mjpeg", "JPEG")
    assert not with_kind(Source(str(tmp_path / "a.mjpeg"), "a.mjpeg")).is_image


def test_a_url_is_a_picture_by_the_suffix_before_its_query() -> None:
    assert Source("https://host/a.JPG?size=2", "a").is_image
    assert not Source("https://host/a.mp4?of=b.jpg", "a").is_image


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_a_damaged_picture_is_an_error_of_its_own(tmp_path: Path, kind: str) -> None:
    if kind == "HEIF":
        save_heic(tmp_path / "a")
    else:
        picture().save(tmp_path / "a", kind)
    whole, random = (tmp_path / "a").read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        broken = bytearray(whole)
        for at in random.integers(0, 600, 6):
            broken[at % len(broken)] = int(random.integers(0, 256))
        (tmp_path / "a").write_bytes(broken)
        with contextlib.suppress(VideoError):
            read_still(tmp_path / "a")
