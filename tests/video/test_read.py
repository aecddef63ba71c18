"""Times, sampling, windows, damage and color on small videos with known frames."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from fcvideo.errors import VideoError
from fcvideo.video.decode import _DisplayOrder
from fcvideo.video.inputs import Source
from fcvideo.video.picture import RgbConverter
from fcvideo.video.probe import fingerprint, probe
from fcvideo.video.read import Frame, read_frames, read_shown
from fcvideo.video.segments import plan_segments
from tests.conftest import frame_number

MakeVideo = Callable[..., Path]
OPEN_GOP = {"x264-params": "open-gop=1:b-adapt=0:keyint=12:min-keyint=12:scenecut=0:bframes=3", "preset": "veryfast"}


def read(path: Path, seconds: float = 30.0, fps: float | None = None, **window: float) -> list[Frame]:
    segments = plan_segments(Source(str(path), path.name), seconds, **window)
    return [frame for segment in segments for frame in read_frames(segment, fps)]


def numbers(frames: list[Frame]) -> list[int | None]:
    return [None if frame.image is None else frame_number(frame.image) for frame in frames]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("b.mp4", {"b_frames": 3}),
        ("b.mkv", {"b_frames": 3}),
        ("open.mp4", {"b_frames": 3, "options": OPEN_GOP}),
        ("open.mkv", {"b_frames": 3, "options": OPEN_GOP}),
        ("refresh.mkv", {"options": {"x264-params": "intra-refresh=1:keyint=12", "preset": "veryfast"}}),
        ("vp9.webm", {"codec": "libvpx-vp9"}),
        ("jpeg.avi", {"codec": "mjpeg"}),
        ("mpeg4.mp4", {"codec": "mpeg4"}),
        ("vfr.mp4", {"pts": [852 + 33 * i + 400 * (i // 20) + i % 3 for i in range(60)], "b_frames": 2}),
    ],
)
def test_frames_times_and_segments_of_made_videos(
    tmp_path: Path, make_video: MakeVideo, name: str, options: dict
) -> None:
    path = make_video(tmp_path / name, num_frames=60, **options)
    whole, parts = read(path, 1e6), read(path, 0.4)
    pts = options.get("pts", [40 * i for i in range(60)])
    assert numbers(whole) == numbers(parts) == list(range(60))
    assert [frame.frame_index for frame in parts] == list(range(60))
    np.testing.assert_allclose([frame.pts_seconds for frame in whole], np.array(pts) / 1000, atol=1e-6)
    for a, b in zip(whole, parts, strict=True):
        assert a.pts_seconds == b.pts_seconds
        assert np.array_equal(a.image, b.image)
    for fps in (1.0, 3.7, 12.5):
        sampled = read(path, 0.4, fps)
        assert [f.frame_index for f in sampled] == [f.frame_index for f in read(path, 1e6, fps)]


def test_a_transport_stream_reads_by_segments(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "open.ts", num_frames=60, b_frames=3, options=OPEN_GOP)
    assert len(plan_segments(Source(str(path), "x"), 0.4)) == 5
    assert numbers(read(path, 0.4)) == list(range(60))


def test_sampling_takes_the_first_frame_of_every_bin(tmp_path: Path, make_video: MakeVideo) -> None:
    pts = [500, 540, 900, 1510, 1520, 2499, 2500, 4600]  # from 500: bins 0 0 0 1 1 1 2 4 at one frame a second
    path = make_video(tmp_path / "v.mp4", pts=pts)
    assert numbers(read(path, fps=1.0)) == [0, 3, 6, 7]
    assert numbers(read(path, fps=1000.0)) == list(range(8))
    assert numbers(read(path, fps=1 / 2)) == [0, 6, 7]


def test_a_window_keeps_the_frames_own_indices(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "v.mp4", pts=[1000 + 40 * i for i in range(60)])
    for seconds in (0.4, 30.0):
        frames = read(path, seconds, start_seconds=1.4, duration_seconds=0.8)
        assert numbers(frames) == [frame.frame_index for frame in frames] == list(range(10, 30))
    assert numbers(read(path, duration_seconds=0.2)) == list(range(5))
    assert numbers(read(path, start_seconds=3.2)) == list(range(55, 60))
    assert plan_segments(Source(str(path), "v"), start_seconds=9.0) == []
    irregular = make_video(tmp_path / "v.avi", num_frames=60, codec="mpeg4")
    assert numbers(read(irregular, start_seconds=0.4, duration_seconds=0.8)) == list(range(10, 30))
    whole = [f.frame_index for f in read(path, fps=3.0)]
    part = [f.frame_index for f in read(path, fps=3.0, start_seconds=1.5, duration_seconds=1.0)]
    assert part == [i for i in whole if 1.5 <= 1 + 0.04 * i < 2.5]


@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_pictures_are_upright(tmp_path: Path, make_video: MakeVideo, rotation_deg: int, is_mirrored: bool) -> None:
    path = make_video(tmp_path / "v.mp4", num_frames=3, rotation_deg=rotation_deg, is_mirrored=is_mirrored)
    for number, frame in enumerate(read(path)):
        coded = frame.image[:, ::-1] if is_mirrored else frame.image
        assert frame_number(np.rot90(coded, -rotation_deg // 90)) == number
        assert frame.image.flags.c_contiguous
    info = probe(Source(str(path), "v"))
    assert (info.width, info.height) == ((48, 64) if rotation_deg % 180 else (64, 48))


def test_a_damaged_packet_costs_its_group_and_nothing_more(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "v.mp4", num_frames=60)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.pts is not None][29]
        start, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    whole = read(path, 1e6)
    assert [frame.frame_index for frame in whole] == list(range(60))
    assert {frame.frame_index for frame in whole if frame.is_damaged} == set(range(29, 36))  # the next key frame is 36
    assert whole[29].image is None
    assert numbers(whole)[:29] == list(range(29))
    assert numbers(whole)[36:] == list(range(36, 60))
    assert numbers(read(path, 0.4)) == numbers(whole)


def test_a_stream_without_any_picture_says_so(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "v.mp4", num_frames=5)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        start, stop = packets[0].pos, packets[-1].pos + packets[-1].size
    data = bytearray(path.read_bytes())
    data[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(data)
    with pytest.raises(VideoError) as caught:
        read(path)
    assert caught.value.status == "no_frames"
    with pytest.raises(VideoError) as caught:
        probe(Source(str(path), "v"))
    assert caught.value.status == "no_frames"


def test_joined_streams_keep_the_containers_times(tmp_path: Path, make_video: MakeVideo) -> None:
    parts = [make_video(tmp_path / f"{i}.ts", num_frames=50).read_bytes() for i in range(2)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    frames = read(path, 0.4)
    assert [frame.frame_index for frame in frames] == list(range(100))
    assert [frame.pts_seconds for frame in frames[:50]] == [frame.pts_seconds for frame in frames[50:]]


def test_a_frame_without_a_time_gets_one_and_is_marked(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "v.h264", num_frames=10)
    frames = read(path)
    assert numbers(frames) == list(range(10))
    times = [frame.pts_seconds for frame in frames]
    assert all(a < b for a, b in pairwise(times))
    assert any(frame.is_time_repaired for frame in frames)


def test_threads_change_nothing(media: Path) -> None:
    segment = plan_segments(Source(str(media / "hamilton.mp4"), "x"))[0]
    for a, b in zip(read_frames(segment, fps=5), read_frames(segment, fps=5, threads=2), strict=True):
        assert np.array_equal(a.image, b.image)


def test_shown_frames_are_the_last_that_are_not_later(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "v.mp4", num_frames=20)
    (segment,) = plan_segments(Source(str(path), "v"))
    second = segment.time_base.denominator
    times = [round(t * second) for t in (-1, 0, 0.03, 0.2, 0.21, 0.21, 0.5, 99)]
    assert numbers(list(read_shown(segment, times))) == [0, 0, 0, 5, 5, 5, 12, 19]


def test_a_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 3 << 20, np.uint8).tobytes()
    prints = []
    for i, content in enumerate([data, data, data[:-1], b"x" + data[1:], data[:-1] + b"x", b""]):
        (tmp_path / str(i)).write_bytes(content)
        prints.append(fingerprint(Source(str(tmp_path / str(i)), str(i))))
    assert prints[0] == prints[1]
    assert len(set(prints)) == 5
    assert all(len(text) == 32 for text in prints)


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (9, 0.2627, 0.0593)])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
def test_colors_follow_the_tags(pixels: str, matrix: int, kr: float, kb: float, is_full: bool) -> None:
    red, green, blue = rgb = np.array([200, 40, 60]) / 255
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = [(blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)]
    scale, dtype = (4, np.uint16) if "10" in pixels else (1, np.uint8)
    levels = (
        [255 * luma, *(128 + 255 * c for c in chroma)]
        if is_full
        else [16 + 219 * luma, *(128 + 224 * c for c in chroma)]
    )
    frame = av.VideoFrame(64, 48, pixels)
    frame.colorspace, frame.color_range = matrix, 2 if is_full else 1
    for plane, level in zip(frame.planes, levels, strict=True):
        plane.update(np.full(plane.buffer_size // np.dtype(dtype).itemsize, round(level * scale), dtype).tobytes())
    np.testing.assert_allclose(RgbConverter()(frame)[24, 32], rgb * 255, atol=3.5)


@pytest.mark.parametrize("pixels", ["rgb24", "bgra", "gbrp", "gray", "pal8", "nv12", "yuva420p", "yuvj444p", "monow"])
def test_any_pixel_format_and_color_tag_has_a_form_in_rgb(pixels: str) -> None:
    for tag in (0, 2, 8, 10, 14):
        frame = av.VideoFrame(64, 48, pixels)
        frame.colorspace = tag
        assert RgbConverter()(frame).shape == (48, 64, 3)


def test_frames_are_freed_without_the_garbage_collector(media: Path) -> None:
    source = Source(str(media / "facenet_street.mp4"), "x")
    gc.collect()
    gc.disable()
    try:
        num_objects = []
        for _ in range(2):
            num_frames = sum(1 for segment in plan_segments(source) for _ in read_frames(segment, fps=5.0))
            num_objects.append(sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert num_frames == 21
    assert num_objects[1] - num_objects[0] <= 1  # the thumbnail that shows the orientation


def test_two_frames_of_one_time_are_no_error(tmp_path: Path, make_video: MakeVideo) -> None:
    with av.open(str(make_video(tmp_path / "v.mp4", num_frames=3))) as container:
        frames = list(container.decode(video=0))
    order = _DisplayOrder()
    for frame in frames:
        order.expect(frame.pts, is_tainted=False)
    for frame in (frames[2], frames[2], frames[0]):
        order.add(frame)
    assert [picture.pts for picture in order.take(is_end=True)] == [frame.pts for frame in frames]
