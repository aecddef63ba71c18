"""Joined files: every time and every sound packet the source's own, in real and made videos; seams do not show."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from fcvideo.errors import OutputError, VideoError
from fcvideo.video import sound
from fcvideo.video.join import Joined, join_segments
from fcvideo.video.read import Frame
from fcvideo.video.write import Coding
from tests.conftest import numbered_picture
from tests.video.rendering import FAST, MARK, boxes, packets, read, render, sound_packets, source, write_parts

READABLE = [
    *("cap13_edit2.mp4", "carphone.mp4", "dc_video_90.mov", "facenet_street.mp4", "franck.mp4", "hamilton.mp4"),
    *("in_student.mkv", "lp_d0.mp4", "lp_d12.mp4", "lp_s29.mp4", "pyfeat_single_face.mp4", "tc_bt2020_10bit.mp4"),
    *("tc_nonzero.mp4", "hostile/corrupt_mid_block.mp4", "hostile/fragmented.mp4", "hostile/odd_321x241_vp9.webm"),
    *("hostile/one_frame.mp4", "hostile/rot90.mp4", "hostile/trunc_faststart.mp4", "hostile/vfr_h264.mp4"),
]
MAX_PIXELS = 20_000_000  # of one clip here, so that large ones are short
RATE = 48_000
CLICK_SECONDS = 0.5


def errors_seconds(frames: list[Frame], again: list[Frame]) -> np.ndarray:
    return np.abs([a.pts_seconds - b.pts_seconds for a, b in zip(frames, again, strict=True)])


def errors_levels(frames: list[Frame], again: list[Frame]) -> np.ndarray:
    """Mean absolute difference of each picture."""
    return np.array([np.abs(a.image.astype(int) - b.image).mean() for a, b in zip(frames, again, strict=True)])


@pytest.mark.parametrize("name", READABLE)
def test_times_and_sound_of_real_videos_are_the_sources(tmp_path: Path, media: Path, name: str) -> None:
    path = media / name
    first, time_base = read(path, 1)
    limit = max(2, MAX_PIXELS // first[0].image[..., 0].size)
    frames, joined = render(path, tmp_path / "out.mp4", limit=limit)
    again, _ = read(tmp_path / "out.mp4")
    assert joined.num_frames == len(frames) == len(again)
    assert errors_seconds(frames, again).max() <= 1e-6
    last = again[-1].pts_seconds + float(frames[-1].duration * time_base)
    assert joined.start_seconds + joined.duration_seconds == pytest.approx(last, abs=1e-6)
    assert joined.shift_seconds == joined.num_sound_skipped == 0
    sounds, sounds_again = sound_packets(path), sound_packets(tmp_path / "out.mp4")
    assert joined.sound == ("copied" if sounds else "none")
    assert len(sounds) == len(sounds_again)
    for ours, theirs in zip(sounds_again, sounds, strict=True):
        assert [bytes(packet) for packet in ours] == [bytes(packet) for packet in theirs]
        assert [packet.pts * packet.time_base for packet in ours] == [p.pts * p.time_base for p in theirs]


def test_a_clock_that_starts_again_goes_on_with_its_sound(tmp_path: Path, media: Path) -> None:
    frames, time_base = read(media / "hostile" / "reschange.ts")
    height, width = frames[0].image.shape[:2]
    for frame in frames:  # the picture's size changes too: a job fits it to the first
        object.__setattr__(frame, "image", np.resize(frame.image, (height, width, 3)))
    parts = write_parts(tmp_path, frames, time_base, 1)
    joined = join_segments(parts, tmp_path / "out.mp4", sound=source(media / "hostile" / "reschange.ts"), mark=MARK)
    assert joined.num_frames == len(frames) == 240
    assert joined.duration_seconds == pytest.approx(8.0, abs=0.001)
    (sounds,) = sound_packets(tmp_path / "out.mp4")
    assert joined.sound == "copied"
    first_seconds = float(frames[0].pts * time_base)
    assert float(sounds[-1].pts * sounds[-1].time_base) == pytest.approx(first_seconds + 8.0, abs=0.1)


@pytest.mark.parametrize("coding", [Coding(is_lossless=True), FAST, Coding("hevc", 30), Coding("av1", 50)], ids=str)
def test_seven_segments_show_what_one_shows(tmp_path: Path, media: Path, coding: Coding) -> None:
    one, _ = render(media / "carphone.mp4", tmp_path / "1.mp4", num_parts=1, limit=40, coding=coding)
    render(media / "carphone.mp4", tmp_path / "7.mp4", num_parts=7, limit=40, coding=coding)
    first, seventh = read(tmp_path / "1.mp4")[0], read(tmp_path / "7.mp4")[0]
    assert errors_seconds(first, seventh).max() == errors_seconds(first, one).max() == 0
    if coding.is_lossless:
        for a, b, original in zip(first, seventh, one, strict=True):
            assert np.array_equal(a.image, b.image)
            assert np.array_equal(a.image, original.image)
    else:
        noise, noise_of_seven = errors_levels(first, one), errors_levels(seventh, one)
        assert errors_levels(first, seventh).mean() <= noise.mean()
        assert noise_of_seven.max() <= 1.1 * noise.max()


def nal_types(data: bytes) -> list[int]:
    """Of H.264 as mp4 stores it."""
    types, at = [], 0
    while at < len(data):
        types.append(data[at + 4] & 31)
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return types


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_browsers_and_ffprobe_find_what_they_expect(tmp_path: Path, media: Path, codec: str) -> None:
    out = tmp_path / "out.mp4"
    render(media / "hamilton.mp4", out, num_parts=2, limit=40, coding=Coding(codec, 40))
    kinds = boxes(out)
    assert kinds[0] == "ftyp"
    assert kinds.index("moov") < kinds.index("mdat")
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert not stream.codec_context.has_b_frames
        assert stream.codec_context.codec_tag == {"h264": "avc1", "hevc": "hvc1", "av1": "av01"}[codec]
    keys = {i: bytes(packet) for i, packet in enumerate(packets(out, 0)) if packet.is_keyframe}
    assert list(keys) == [0, 20]  # 0.85 s to 2.19 s: the two segments' own
    if codec == "h264":
        assert all(5 in nal_types(key) and 1 not in nal_types(key) for key in keys.values())  # IDR: nothing refers back
    if probe := shutil.which("ffprobe"):
        starts = [stream["start_time"] for stream in shown_by(probe, media / "hamilton.mp4").streams]
        found = shown_by(probe, out)
        assert found.complaints == "" or codec == "av1"  # whose decoder names the mark as metadata unknown to it
        video, audio = found.streams
        assert (video["codec_name"], video["start_time"]) == (codec, starts[0])
        assert (video["color_space"], video["color_range"]) == ("bt709", "tv")
        assert (audio["codec_name"], audio["start_time"]) == ("aac", starts[1])


class Shown(NamedTuple):
    streams: list[dict[str, str]]
    complaints: str


def shown_by(probe: str, path: Path) -> Shown:
    command = [probe, "-v", "error", "-show_entries", "stream=codec_name,start_time,color_space,color_range:frame=pts"]
    found = subprocess.run([*command, "-of", "json", path], capture_output=True, text=True, check=True)
    return Shown(json.loads(found.stdout)["streams"], found.stderr)


def make_sounding(
    path: Path, codecs: list[str], languages: list[str] | None = None, start_ms: int = 0, seconds: float = 1.0
) -> Path:
    """A video of 25 pictures a second with a click in each sound at 0.5 s after the start."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4" if path.suffix in (".avi", ".asf") else "h264", rate=25)
        video.width, video.height = 64, 48
        video.codec_context.time_base = Fraction(1, 1000)
        video.codec_context.max_b_frames = 0
        sounds = []
        for number, codec in enumerate(codecs):
            sounds.append(container.add_stream(codec, rate=RATE, options={"strict": "experimental"}))  # vorbis is
            sounds[-1].codec_context.layout = "stereo"
            sounds[-1].codec_context.bit_rate = 128_000
            if languages:
                sounds[-1].metadata["language"] = languages[number]
        container.start_encoding()
        wave = np.zeros((2, int(RATE * seconds)), np.float32)
        click = int(CLICK_SECONDS * RATE)
        wave[:, click : click + 480] = 0.8 * np.sin(np.arange(480) * 2 * np.pi * 1000 / RATE)
        for i in range(int(25 * seconds)):
            picture = av.VideoFrame.from_ndarray(numbered_picture(i, (64, 48)), format="rgb24")
            picture.pts, picture.time_base = start_ms + 40 * i, Fraction(1, 1000)
            container.mux(video.encode(picture))
            for stream in sounds:
                block = np.ascontiguousarray(wave[:, i * RATE // 25 : (i + 1) * RATE // 25])
                samples = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                samples.sample_rate, samples.time_base = RATE, Fraction(1, RATE)
                samples.pts = start_ms * RATE // 1000 + i * RATE // 25
                container.mux(stream.encode(samples))
        for stream in (video, *sounds):
            container.mux(stream.encode(None))
    return path


def click_seconds(path: Path, index: int = 0) -> float:
    """When the loudest click begins, on the file's clock."""
    times, levels, end = [], [], 0.0
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp")
        for frame in container.decode(audio=index):
            for converted in resampler.resample(frame):
                level = np.abs(converted.to_ndarray()).max(axis=0)
                start = end if frame.time is None else frame.time
                end = start + level.size / frame.sample_rate
                times.append(np.linspace(start, end, level.size, endpoint=False))
                levels.append(level)
    level = np.concatenate(levels)
    return float(np.concatenate(times)[np.argmax(level > level.max() / 2)])


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [
        *[("a.mp4", "aac", "copied"), ("a.mp4", "libmp3lame", "copied"), ("a.mkv", "libopus", "copied")],
        *[("a.mkv", "vorbis", "copied"), ("a.mkv", "flac", "copied"), ("a.ts", "ac3", "copied")],
        *[("a.ts", "mp2", "copied"), ("a.mkv", "aac", "copied"), ("a.avi", "libmp3lame", "copied")],
        *[("a.mov", "pcm_s16le", "encoded"), ("a.avi", "pcm_s16le", "encoded"), ("a.asf", "wmav2", "encoded")],
    ],
)
def test_sound_of_every_codec_stays_in_time(tmp_path: Path, name: str, codec: str, kind: str) -> None:
    path = make_sounding(tmp_path / name, [codec], start_ms=0 if name == "a.avi" else 200)
    _, joined = render(path, tmp_path / "out.mp4")
    assert (joined.sound, joined.num_sound_skipped) == (kind, 0)
    assert click_seconds(tmp_path / "out.mp4") == pytest.approx(click_seconds(path), abs=0.0015)
    (sounds,), (ours,) = sound_packets(path), sound_packets(tmp_path / "out.mp4")
    if kind == "copied":
        assert [bytes(packet) for packet in ours] == [bytes(packet) for packet in sounds]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.ts", "aac"), ("a.mpg", "mp2"), ("a.mov", "pcm_f32le"), ("a.mkv", "aac")]
)
def test_damaged_sound_never_ends_a_video(tmp_path: Path, name: str, codec: str) -> None:
    path = make_sounding(tmp_path / name, [codec])
    frames, time_base = read(path)
    parts = write_parts(tmp_path, frames, time_base, 1)
    whole = path.read_bytes()
    for seed in range(8):
        random = np.random.default_rng(seed)
        data = bytearray(whole)
        for start in random.integers(len(data) // 4, len(data) * 3 // 4, 20):
            data[start : start + 30] = random.bytes(30)
        path.write_bytes(data)
        joined = join_segments(parts, tmp_path / "out.mp4", sound=source(path), mark=MARK)
        assert joined.num_frames == len(packets(tmp_path / "out.mp4", 0)) == 25


def test_sound_that_fails_only_while_it_is_written_is_coded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_sounding(tmp_path / "a.mkv", ["pcm_s16le"])
    monkeypatch.setattr(sound, "_COPIED_CODECS", frozenset(("pcm_s16le",)))
    monkeypatch.setattr(sound._Track, "add_to", fail_if_copied(sound._Track.add_to))
    _, joined = render(path, tmp_path / "out.mp4")
    assert joined.sound == "encoded"
    assert click_seconds(tmp_path / "out.mp4") == pytest.approx(click_seconds(path), abs=0.0015)


def fail_if_copied(add_to: Callable[[sound._Track, Any], None]) -> Callable[[sound._Track, Any], None]:
    def add_or_fail(track: sound._Track, output: Any) -> None:
        if track.is_copied:
            raise av.error.InvalidDataError(1, "as the muxer says it")
        add_to(track, output)

    return add_or_fail


def test_sound_of_a_transport_stream_loses_its_headers_and_nothing_else(tmp_path: Path) -> None:
    path = make_sounding(tmp_path / "a.ts", ["aac"])
    _, joined = render(path, tmp_path / "out.mp4")
    (sounds,), (ours,) = sound_packets(path), sound_packets(tmp_path / "out.mp4")
    assert joined.sound == "copied"
    assert [bytes(packet) for packet in ours] == [bytes(packet)[7:] for packet in sounds]  # of ADTS, 7 bytes each
    assert click_seconds(tmp_path / "out.mp4") == pytest.approx(click_seconds(path), abs=0.0015)


def test_every_sound_keeps_its_language(tmp_path: Path) -> None:
    path = make_sounding(tmp_path / "a.mkv", ["aac", "pcm_s16le", "libopus"], ["deu", "fra", "jpn"])
    _, joined = render(path, tmp_path / "out.mp4")
    assert joined.sound == "encoded"
    with av.open(str(tmp_path / "out.mp4")) as container:
        streams = container.streams.audio
        assert [stream.metadata["language"] for stream in streams] == ["deu", "fra", "jpn"]
        assert [stream.codec_context.name for stream in streams] == ["aac", "aac", "opus"]
    times = [click_seconds(tmp_path / "out.mp4", index) for index in range(3)]
    assert times == pytest.approx([click_seconds(path, index) for index in range(3)], abs=0.0015)


def excerpt(path: Path, out: Path, first: int, end: int) -> Joined:
    frames, time_base = read(path)
    parts = write_parts(out.parent, frames[first:end], time_base, 2)
    return join_segments(parts, out, sound=source(path), mark=MARK, is_excerpt=True)


@pytest.mark.parametrize("codec", ["aac", "libopus", "pcm_s16le"])
def test_an_excerpt_starts_at_zero_with_its_stretch_of_sound(tmp_path: Path, codec: str) -> None:
    path, out = make_sounding(tmp_path / "a.mkv", [codec], start_ms=200), tmp_path / "out.mp4"
    joined = excerpt(path, out, 5, 20)
    assert (joined.num_frames, joined.start_seconds) == (15, 0)
    assert joined.shift_seconds == pytest.approx(-0.4)
    assert click_seconds(out) == pytest.approx(click_seconds(path) - 0.4, abs=0.0015)
    (sounds,) = sound_packets(out)
    first, last = sounds[0], sounds[-1]
    assert -0.13 < float(first.pts * first.time_base) <= 0
    assert float((last.pts + last.duration) * last.time_base) == pytest.approx(0.6, abs=0.002)
    with av.open(str(out)) as container:
        heard = next(container.decode(audio=0))
        assert heard.time == pytest.approx(0, abs=0.001)


def test_an_excerpt_of_a_real_video_keeps_its_packets(tmp_path: Path, media: Path) -> None:
    path, out = media / "hamilton.mp4", tmp_path / "out.mp4"
    joined = excerpt(path, out, 60, 90)
    (theirs,), (ours,) = sound_packets(path), sound_packets(out)
    by_bytes = {bytes(packet): packet for packet in theirs}
    for packet in ours:
        original = by_bytes[bytes(packet)]
        moved = packet.pts * packet.time_base - original.pts * original.time_base
        assert float(moved) == pytest.approx(joined.shift_seconds, abs=1 / 44_100)
    assert 44 <= len(ours) <= 50  # of 23 ms, in a second and the lead


def test_pictures_before_zero_move_everything(tmp_path: Path) -> None:
    path = make_sounding(tmp_path / "a.mp4", ["aac"])
    frames, time_base = read(path)
    for frame in frames:
        object.__setattr__(frame, "pts", frame.pts - round(0.5 / time_base))
    parts = write_parts(tmp_path, frames, time_base, 2)
    joined = join_segments(parts, tmp_path / "out.mp4", sound=source(path), mark=MARK)
    assert joined.shift_seconds == 0.5
    assert click_seconds(tmp_path / "out.mp4") == pytest.approx(click_seconds(path) + 0.5, abs=0.0015)


def test_parts_that_do_not_fit_are_refused(tmp_path: Path, media: Path) -> None:
    frames, time_base = read(media / "carphone.mp4", 20)
    out = tmp_path / "out.mp4"
    first, second = write_parts(tmp_path, frames, time_base, 2)
    with pytest.raises(VideoError, match=r"0_of_2\.mp4: starts at 0\.0 s, expected after"):
        join_segments([second, first], out, sound=None, mark=MARK)
    (other,) = write_parts(tmp_path, frames, time_base, 1, Coding("hevc"))
    with pytest.raises(VideoError, match="found another coding"):
        join_segments([first, other], out, sound=None, mark=MARK)
    second.write_bytes(second.read_bytes()[:100])
    with pytest.raises(VideoError, match=r"1_of_2\.mp4"):
        join_segments([first, second], out, sound=None, mark=MARK)
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_what_stood_there_stays_if_the_disk_refuses(tmp_path: Path, media: Path) -> None:
    frames, time_base = read(media / "carphone.mp4", 4)
    parts = write_parts(tmp_path, frames, time_base, 1)
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(OutputError, match=r"out\.mp4: cannot be written"):
        join_segments(parts, tmp_path / "out.mp4", sound=None, mark=MARK)
    with pytest.raises(OutputError, match=r"out\.mp4: cannot be written"):
        join_segments(parts, tmp_path / "no" / "out.mp4", sound=None, mark=MARK)
    assert not list(tmp_path.glob(".*"))
