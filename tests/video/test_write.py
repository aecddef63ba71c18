"""Segment files: exact times, true colors, padding, the same bytes every time, and nothing half written."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fcvideo.errors import OutputError, SettingsError, VideoError
from fcvideo.video.join import join_segments
from fcvideo.video.probe import probe
from fcvideo.video.read import Frame, read_frames
from fcvideo.video.segments import plan_segments
from fcvideo.video.write import Coding, SegmentWriter, mp4_timescale
from tests.video.rendering import MARK, packets, read, source

CODINGS = [Coding(), Coding("hevc"), Coding("av1"), Coding(is_lossless=True), Coding("hevc", is_lossless=True)]
LOSSLESS = [coding for coding in CODINGS if coding.is_lossless]
COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 150, 120)]


def name(coding: Coding) -> str:
    return f"{coding.codec}{'-lossless' * coding.is_lossless}"


def noise(num: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), dtype=np.uint8)


def write(path: Path, images: np.ndarray, pts: list[int], time_base: Fraction, coding: Coding) -> None:
    height, width = images.shape[1:3]
    with SegmentWriter(path, width, height, time_base, coding) as writer:
        for image, at in zip(images, pts, strict=True):
            writer.write(image, at, 0)


def read_exactly(path: Path) -> list[Frame]:
    (segment,) = plan_segments(source(path), 1e6)
    return list(read_frames(segment, is_exact=True))


@pytest.mark.parametrize("coding", CODINGS, ids=name)
def test_times_of_a_variable_rate_come_back_exactly(tmp_path: Path, coding: Coding) -> None:
    pts = [10_214, 10_614, 10_615, 11_900, 60_000, 60_401]
    images = noise(len(pts), 96, 128)
    write(tmp_path / "a.mp4", images, pts, Fraction(1, 11_988), coding)
    frames, time_base = read(tmp_path / "a.mp4")
    assert [frame.pts * time_base for frame in frames] == [at * Fraction(1, 11_988) for at in pts]
    assert frames[-1].duration * time_base == Fraction(401, 11_988)
    written = packets(tmp_path / "a.mp4", 0)
    assert [packet.pts for packet in written] == [packet.dts for packet in written]
    assert written[0].is_keyframe
    assert written[4].is_keyframe  # more than 3 s later


@pytest.mark.parametrize(
    "time_base",
    [Fraction(1, n) for n in (25, 1000, 12_800, 30_000, 90_000, 1_000_000, 10**9)] + [Fraction(1001, 30000)],
)
def test_any_time_base_is_kept_to_a_microsecond(tmp_path: Path, time_base: Fraction) -> None:
    pts = [round(seconds / time_base) for seconds in (7200.0, 7200.04, 7200.12, 7209.0)]
    write(tmp_path / "a.mp4", noise(4), pts, time_base, Coding(crf=40))
    frames, read_base = read(tmp_path / "a.mp4")
    errors = [abs(frame.pts * read_base - at * time_base) for frame, at in zip(frames, pts, strict=True)]
    assert max(errors) <= (0 if time_base.denominator <= 1_000_000 else 1e-6)
    assert read_base == Fraction(1, mp4_timescale(time_base))


@pytest.mark.parametrize("coding", [coding for coding in CODINGS if not coding.is_lossless], ids=name)
def test_colors_come_back_without_a_shift(tmp_path: Path, coding: Coding) -> None:
    image = np.repeat(np.array(COLORS, np.uint8), 64, axis=0)[None].repeat(96, axis=0)
    write(tmp_path / "a.mp4", image[None].repeat(3, axis=0), [0, 1, 2], Fraction(1, 25), coding)
    for frame in read_exactly(tmp_path / "a.mp4"):
        patches = frame.image[48, 32::64].astype(int)
        assert np.abs(patches - COLORS).max() <= 3
        assert np.abs((patches - COLORS).mean(axis=0)).max() < 1
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.pix_fmt, codec.color_range, codec.colorspace) == ("yuv420p", 1, 1)
        assert (codec.color_primaries, codec.color_trc) == (1, 1)


@pytest.mark.parametrize("coding", LOSSLESS, ids=name)
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_lossless_is_lossless_of_any_size(tmp_path: Path, coding: Coding, size: tuple[int, int]) -> None:
    images = noise(5, *size)
    write(tmp_path / "a.mp4", images, [0, 1, 2, 3, 4], Fraction(1, 25), coding)
    frames, _ = read(tmp_path / "a.mp4")
    assert all(np.array_equal(frame.image, image) for frame, image in zip(frames, images, strict=True))


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_an_odd_side_gets_a_copy_of_its_edge(tmp_path: Path, codec: str) -> None:
    image = np.full((65, 97, 3), 40, np.uint8)
    image[:, 96] = image[64] = 220
    write(tmp_path / "a.mp4", image[None].repeat(2, axis=0), [0, 1], Fraction(1, 25), Coding(codec, 10))
    decoded = read_exactly(tmp_path / "a.mp4")[0].image.astype(int)
    assert decoded.shape == (66, 98, 3)
    assert np.abs(decoded[:65, :97] - image).max() < 20
    assert np.abs(decoded[65] - 220).max() < 20
    assert np.abs(decoded[:, 97] - 220).max() < 20


@pytest.mark.parametrize("coding", CODINGS, ids=name)
def test_the_same_pictures_are_the_same_bytes(tmp_path: Path, coding: Coding) -> None:
    images = noise(1, 128, 128)[0] // 4 + np.arange(20, dtype=np.uint8)[:, None, None, None] * 4
    for path in (tmp_path / "a.mp4", tmp_path / "b.mp4"):
        write(path, images, list(range(20)), Fraction(1, 25), coding)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("rotation_deg", [0, 90])
def test_the_shape_of_pixels_is_kept(tmp_path: Path, make_video: Callable[..., Path], rotation_deg: int) -> None:
    path = make_video(tmp_path / "a.mp4", 3, rotation_deg=rotation_deg, options={"x264-params": "sar=16/11"})
    aspect = probe(source(path)).pixel_aspect
    assert aspect == (Fraction(11, 16) if rotation_deg else Fraction(16, 11))
    with SegmentWriter(tmp_path / "b.mp4", 64, 48, Fraction(1, 25), Coding(), aspect) as writer:
        writer.write(noise(1)[0], 0, 1)
    join_segments([tmp_path / "b.mp4"], tmp_path / "out.mp4", sound=None, mark=MARK)
    assert probe(source(tmp_path / "out.mp4")).pixel_aspect == aspect


def test_a_clock_that_starts_again_goes_on(tmp_path: Path) -> None:
    with SegmentWriter(tmp_path / "a.mp4", 64, 48, Fraction(1, 1000), Coding()) as writer:
        for image, pts in zip(noise(5), [5000, 5040, 1000, 1040, 1090], strict=True):
            writer.write(image, pts, 40)
    frames, _ = read(tmp_path / "a.mp4")
    assert [round(1000 * frame.pts_seconds) for frame in frames] == [5000, 5040, 5080, 5120, 5170]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with SegmentWriter(tmp_path / "a.mp4", 64, 48, Fraction(1, 25), Coding()) as writer:
            for pts, image in enumerate(noise(60)):
                writer.write(image, pts, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_segment_without_pictures_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(VideoError, match="found no picture"),
        SegmentWriter(tmp_path / "a.mp4", 64, 48, Fraction(1, 25), Coding()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.mp4: cannot be written"):
        write(tmp_path / "no" / "a.mp4", noise(2), [0, 1], Fraction(1, 25), Coding())


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    import resource  # what a full disk does, done by a limit on the size of files

    def run(limit: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            write(tmp_path / "a.mp4", noise(20), list(range(20)), Fraction(1, 25), Coding(crf=0))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for limit in (0, 100, 50_000):
            with pytest.raises(OutputError, match=r"a\.mp4: cannot be written \(File too large\)"):
                run(limit)
    finally:
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_no_codec_takes_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="20000 x 2 cannot be coded as h264"):
        write(tmp_path / "a.mp4", np.zeros((1, 2, 20_000, 3), np.uint8), [0], Fraction(1, 25), Coding())
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_named_early() -> None:
    with pytest.raises(SettingsError, match="found 'h265', expected a codec of h264, hevc, av1"):
        Coding("h265")
    with pytest.raises(SettingsError, match="expected a lossless codec of h264, hevc"):
        Coding("av1", is_lossless=True)
    with pytest.raises(SettingsError, match="found 52, expected 0 to 51"):
        Coding(crf=52)
    assert pickle.loads(pickle.dumps(Coding("av1", 30))) == Coding("av1", 30)
