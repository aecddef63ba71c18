"""The like of the development material, made where that is not at hand: same names, counts and properties.

One face, NASA's portrait that scikit-image brings, is seen by a camera that moves; sizes are small.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from PIL import Image

SOUND_RATE = 44_100
Pictures = Sequence[np.ndarray] | Iterator[np.ndarray]


@cache
def _portrait() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut()[:360, 60:420])


def view(moment: float, size: tuple[int, int], zoom: float = 1.0, turn: float = 0.0) -> np.ndarray:
    """The camera's picture at `moment` (0 to 1: once there and back); `turn` narrows the face as a turned head's."""
    width, height = size
    side = min(size)
    window = 330 / zoom * (1 - 0.12 * math.sin(math.pi * moment) ** 2)
    scale, phase = window / side, 2 * math.pi * moment
    roll = math.radians(4) * math.sin(phase)
    axes = scale * np.array([[math.cos(roll) / (1 - turn), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    corner = np.array([172 + 14 * math.sin(phase), 160 + 6 * math.sin(phase / 2)]) - axes @ [width / 2, height / 2]
    affine = (*axes[0], corner[0], *axes[1], corner[1])
    picture = _portrait().transform(
        size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR, fillcolor=(96,) * 3
    )
    return np.asarray(picture)


def views(num: int, size: tuple[int, int], zoom: float = 1.0, loops: float = 1.0) -> Iterator[np.ndarray]:
    return (view(loops * i / num, size, zoom) for i in range(num))


def soft(pictures: Pictures, times: int) -> Iterator[np.ndarray]:
    """Enlarged, as footage of a cheap camera."""
    for picture in pictures:
        height, width, _ = picture.shape
        yield np.asarray(Image.fromarray(picture).resize((width * times, height * times), Image.Resampling.BICUBIC))


def crowd(num: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Four faces side by side: two small, two of half their size."""
    width, height = size
    for i in range(num):
        picture = np.full((height, width, 3), 96, np.uint8)
        for place in range(4):
            side = height // 2 // (1 + place % 2)
            left, top = width * place // 4, height // 8 + height // 4 * (place % 2)
            picture[top : top + side, left : left + side] = view(i / num + place / 4, (side, side))
        yield picture


def write(
    path: Path,
    pictures: Pictures,
    *,
    rate: float = 25,
    codec: str = "h264",
    gop: int = 250,
    times_ms: Sequence[int] | None = None,
    start_ms: int = 0,
    sound: str | None = None,
    rotation_deg: int = 0,
    pix_fmt: str = "yuv420p",
    b_frames: int = 0,
    options: dict[str, str] | None = None,
) -> None:
    """Pictures at `times_ms`, or at `rate` from `start_ms` on; `sound` is the codec of a tone as long as they are."""
    time_base = Fraction(1, 1000) if times_ms is not None else 1 / Fraction(rate).limit_denominator(1001)
    start = 0 if times_ms is not None else round(Fraction(start_ms, 1000) / time_base)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        video.pix_fmt, video.codec_context.gop_size = pix_fmt, gop
        video.codec_context.max_b_frames, video.codec_context.time_base = b_frames, time_base
        video.codec_context.thread_count = 1
        if codec == "h264":
            video.codec_context.options = {"preset": "ultrafast", "crf": "20", "bf": str(b_frames)}
        if codec == "hevc":
            video.codec_context.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        tone = None if sound is None else _Tone(container, sound, start_ms)
        is_begun = False
        for number, picture in enumerate(pictures):
            if not is_begun:
                video.height, video.width, _ = picture.shape
                if rotation_deg:
                    video.set_display_rotation(rotation_deg)
                is_begun = True
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = start + number if times_ms is None else times_ms[number], time_base
            container.mux(video.encode(frame))
            if tone is not None:
                tone.reach(float(frame.pts * time_base))
        container.mux(video.encode(None))
        if tone is not None:
            tone.end()


class _Tone:
    def __init__(self, container: Any, codec: str, start_ms: int = 0) -> None:
        self.container, self.position = container, start_ms * SOUND_RATE // 1000
        self.stream = container.add_stream(codec, rate=SOUND_RATE, layout="mono")

    def reach(self, seconds: float) -> None:
        while self.position < seconds * SOUND_RATE:
            wave = np.sin((self.position + np.arange(1024)) * 0.1).astype(np.float32)
            samples = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = SOUND_RATE, self.position, Fraction(1, SOUND_RATE)
            self.container.mux(self.stream.encode(samples))
            self.position += 1024

    def end(self) -> None:
        self.container.mux(self.stream.encode(None))


def _sound_alone(path: Path) -> None:
    with av.open(str(path), "w") as container:
        tone = _Tone(container, "aac")
        tone.reach(6.0)
        tone.end()


def _packets(path: Path) -> list[tuple[int, int]]:
    """Place and size of every video packet in the file, in the file's order."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size and packet.pos]


def _corrupt(path: Path) -> None:
    """29 packets in the middle, the end of a group of pictures, are noise."""
    _ordinary(path)
    data = bytearray(path.read_bytes())
    for at, size in _packets(path)[61:90]:
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)


def _ordinary(path: Path, options: dict[str, str] | None = None) -> None:
    write(path, views(180, (240, 136)), rate=30, gop=45, sound="aac", options=options)


def _cut_off(path: Path) -> None:
    """In the middle of the 98th of its 180 frames; the index stands before them."""
    _ordinary(path, {"movflags": "faststart"})
    at, size = _packets(path)[97]
    path.write_bytes(path.read_bytes()[: at + size // 2])


def _index_lost(path: Path) -> None:
    _ordinary(path)
    path.write_bytes(path.read_bytes()[:100_000])


def _size_changes(path: Path) -> None:
    """Two MPEG-TS files in a row: the picture's size changes and the clock starts again."""
    halves = []
    for num_frames, size in [(180, (640, 360)), (60, (320, 180))]:
        half = path.with_name(f"half{size[0]}.ts")
        write(half, views(num_frames, size), rate=30, gop=30, start_ms=1467, sound="aac")
        halves.append(half.read_bytes())
        half.unlink()
    path.write_bytes(b"".join(halves))


def _edit_list(path: Path) -> None:
    """B-frames: the first picture's time is not its place in the file, which mp4 tells by an edit list."""
    write(path, views(765, (100, 76)), gop=250, b_frames=2)


def _variable(path: Path) -> None:
    times = np.cumsum([33 + (i * 7 % 5) * 10 for i in range(129)]) - 33
    write(path, views(129, (240, 136)), rate=30, times_ms=times.tolist(), sound="aac")


def _some_bytes(path: Path) -> None:
    path.write_bytes(b"This is a text, and no video.\n" * 130)


MAKERS: dict[str, Callable[[Path], None]] = {
    "cap13_edit2.mp4": _edit_list,
    "carphone.mp4": lambda path: write(path, views(120, (176, 144), zoom=1.4), rate=30_000 / 1001),
    "dc_video_90.mov": lambda path: write(path, views(3, (144, 80)), rate=30, rotation_deg=270),
    "facenet_street.mp4": lambda path: write(path, crowd(105, (960, 540)), sound="aac"),
    "franck.mp4": lambda path: write(path, views(1440, (180, 144), loops=9), rate=24),
    "hamilton.mp4": lambda path: write(
        path, views(275, (320, 180), zoom=1.2), rate=29.97, gop=48, start_ms=852, sound="aac"
    ),
    "in_student.mkv": lambda path: write(path, views(52, (240, 180)), rate=30),
    "lp_d0.mp4": lambda path: write(path, views(78, (128, 128))),
    "lp_d12.mp4": lambda path: write(path, views(183, (256, 256), zoom=1.3), gop=100, sound="aac"),
    "lp_s29.mp4": lambda path: write(path, soft(views(160, (120, 228)), 3), rate=30, sound="aac"),
    "pyfeat_single_face.mp4": lambda path: write(path, views(72, (240, 136)), rate=30, sound="libmp3lame"),
    "tc_bt2020_10bit.mp4": lambda path: write(path, views(60, (96, 72)), rate=30, codec="hevc", pix_fmt="yuv420p10le"),
    "tc_nonzero.mp4": lambda path: write(path, views(12, (100, 56)), rate=30, start_ms=8333),
    "hostile/audio_only.mp4": _sound_alone,
    "hostile/corrupt_mid_block.mp4": _corrupt,
    "hostile/fragmented.mp4": lambda path: write(
        path, views(120, (160, 90)), rate=30, sound="aac", options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "hostile/huge_8192x4320.mp4": lambda path: write(path, [np.full((4320, 8192, 3), 96, np.uint8)] * 3),
    "hostile/odd_321x241_vp9.webm": lambda path: write(path, views(90, (321, 241)), rate=30, codec="vp9"),
    "hostile/one_frame.mp4": lambda path: write(path, views(1, (160, 90)), rate=30),
    "hostile/reschange.ts": _size_changes,
    "hostile/rot90.mp4": lambda path: write(path, views(282, (160, 90)), rate=30, sound="aac", rotation_deg=90),
    "hostile/text.mp4": _some_bytes,
    "hostile/trunc_faststart.mp4": _cut_off,
    "hostile/trunc_moov_lost.mp4": _index_lost,
    "hostile/vfr_h264.mp4": _variable,
    "hostile/zero_bytes.mp4": lambda path: path.write_bytes(b""),
}


def make_media(folder: Path) -> Path:
    """Fills the folder."""
    (folder / "hostile").mkdir(parents=True)
    for name, make in MAKERS.items():
        make(folder / name)
    return folder


def make_people(path: Path, num: int = 400) -> Path:
    """A table of ready crops as the development packs are, each of `num` faces a clip of its own."""
    rows = []
    for number in range(num):
        jpeg = io.BytesIO()
        Image.fromarray(view(number / num, (96, 96), zoom=1.35)).save(jpeg, "JPEG")
        rows.append({"source": "made", "person": str(number), "clip": str(number), "frame": 0})
        rows[-1]["jpeg"] = jpeg.getvalue()
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path
