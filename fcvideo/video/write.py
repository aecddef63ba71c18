"""Encodes rendered pictures into one segment file; `join` makes a video of such files without encoding again.

So every segment of a video has the same coding parameters, begins with a key frame that nothing refers across, and has
no B-frames: decoding order is display order, and packets follow each other over a seam as within a segment.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from fcvideo.atomic import written_atomically
from fcvideo.errors import SettingsError, VideoError

_MATRIX_RGB = 0  # of ISO/IEC 23091-2
_KEY_SECONDS = 3  # a key frame at the first picture of every 3 s of presentation time: how fine a player can seek
_NOMINAL_RATE = 60  # for the level in the stream's header alone; the times are the pictures' own
_MIN_TIMESCALE = 10_000
_MAX_TIMESCALE = 1_000_000  # mp4 stores steps in 32 bits: at 1e6 a frame may stand for 71 minutes, at 1e9 for 4 s
EARLIER_TAG = "comment"  # in a segment that begins before 0: its times are this many seconds (a fraction) too late
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


@dataclass(frozen=True)
class _Encoder:
    name: str
    pixel_format: str
    options: dict[str, str]
    tag: str | None = None


# One thread each: the same pictures give the same bytes on any machine, and segments are what runs in parallel.
_X265 = "bframes=0:open-gop=0:keyint=-1:pools=none:frame-threads=1:info=0:log-level=error"
# 512 x 512 talking head, crf 18: medium 61 frames/s, 416 kB, 42.3 dB; faster 131, 393 kB, 41.9 dB.
_H264 = {"preset": "faster", "bf": "0", "forced-idr": "1"}
_HEVC = {"preset": "fast", "forced-idr": "1"}
_LOSSY = {
    "h264": _Encoder("libx264", "yuv420p", _H264),
    "hevc": _Encoder("libx265", "yuv420p", {**_HEVC, "x265-params": _X265}, "hvc1"),  # Apple plays hvc1, not hev1
    "av1": _Encoder("libsvtav1", "yuv420p", {"preset": "8", "svtav1-params": "pred-struct=1:lp=1"}),
}
_LOSSLESS = {
    "h264": _Encoder("libx264rgb", "rgb24", {**_H264, "qp": "0"}),
    "hevc": _Encoder("libx265", "gbrp", {**_HEVC, "x265-params": f"{_X265}:lossless=1"}, "hvc1"),
}
_MAX_CRF = {"h264": 51, "hevc": 51, "av1": 63}


@dataclass(frozen=True)
class Coding:
    """How pictures are coded. `crf` is constant quality on the codec's own scale, lower is better.

    H.264, HEVC and AV1 are yuv420p, BT.709, limited range; lossless is RGB to the bit, which few players show.
    Errors: SettingsError.
    """

    codec: str = "h264"
    crf: int = 18
    is_lossless: bool = False

    def __post_init__(self) -> None:
        known = _LOSSLESS if self.is_lossless else _LOSSY
        if self.codec not in known:
            kind = "a lossless codec" if self.is_lossless else "a codec"
            raise SettingsError(f"codec: found {self.codec!r}, expected {kind} of {', '.join(known)}")
        if not 0 <= self.crf <= _MAX_CRF[self.codec]:
            raise SettingsError(f"crf: found {self.crf}, expected 0 to {_MAX_CRF[self.codec]} for {self.codec}")

    @property
    def _encoder(self) -> _Encoder:
        return (_LOSSLESS if self.is_lossless else _LOSSY)[self.codec]


class SegmentWriter:
    """Writes one segment as an mp4 file under an unfinished name, renamed when the `with` ends without an error.

    `width` and `height` are of the pictures; where the coding halves the chroma, an odd side gets one row or column
    more, a copy of the last. `time_base` is the source's own; times are kept to 1e-6 s, exactly up to 1/1,000,000.
    `pixel_aspect`: width by height of one pixel, by which players stretch the picture.
    Errors: OutputError where the disk refuses, VideoError where the codec does.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        time_base: Fraction,
        coding: Coding,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self.pixel_aspect = pixel_aspect
        self.path, self.width, self.height, self.coding = path, width, height, coding
        self._time_base = time_base
        self._encoder = coding._encoder
        self._key_pts = round(_KEY_SECONDS / time_base)
        is_halved = self._encoder.pixel_format == "yuv420p"
        self._padding = (height % 2, width % 2) if is_halved else (0, 0)
        self._reformatter = VideoReformatter()
        self._offset = 0  # of a clock that started again
        self._earlier = 0  # what the file's times are later, so that none is below 0
        self._last_pts: int | None = None
        self._last_duration = 0
        self._durations: dict[int, int] = {}  # of the pictures within the encoder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            unfinished = stack.enter_context(written_atomically(self.path))
            timescale = str(mp4_timescale(self._time_base))
            self._container = av.open(
                f"file:{unfinished}",
                "w",
                format="mp4",
                container_options={"video_track_timescale": timescale, "movie_timescale": timescale},
            )
            stack.push(self._close)
            self._stream = self._add_stream()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, image: npt.NDArray[np.uint8], pts: int, duration: int) -> None:
        """`image` (height, width, 3) RGB, in display order; `duration` 0 where it is not known.

        Where `pts` does not increase, the source is a recording joined to another: the picture follows the last one,
        and what comes after it keeps its distance.
        """
        assert image.shape == (self.height, self.width, 3), image.shape
        assert image.dtype == np.uint8, image.dtype
        pts += self._offset
        if self._last_pts is not None and pts <= self._last_pts:
            follows = self._last_pts + max(self._last_duration, 1)
            self._offset, pts = self._offset + follows - pts, follows
        if self._last_pts is None and pts < 0:
            self._earlier = -pts
            self._container.metadata[EARLIER_TAG] = str(self._earlier * self._time_base)
        frame = self._frame(image)
        frame.pts, frame.time_base = pts, self._time_base
        if self._last_pts is None or pts // self._key_pts != self._last_pts // self._key_pts:
            frame.pict_type = PictureType.I
        self._last_duration = duration or (0 if self._last_pts is None else pts - self._last_pts)
        self._durations[pts] = self._last_duration
        self._last_pts = pts
        self._encode(frame)

    def _add_stream(self) -> av.VideoStream:
        encoder = self._encoder
        if encoder.name == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors alone: it reports its settings on stderr
        is_rgb = encoder.pixel_format != "yuv420p"
        options = encoder.options if self.coding.is_lossless else {**encoder.options, "crf": str(self.coding.crf)}
        stream: av.VideoStream = self._container.add_stream(  # type: ignore[assignment]
            encoder.name, rate=_NOMINAL_RATE, options=options, time_base=self._time_base
        )
        codec = stream.codec_context
        codec.width, codec.height = self.width + self._padding[1], self.height + self._padding[0]
        codec.sample_aspect_ratio = self.pixel_aspect
        codec.pix_fmt = encoder.pixel_format
        codec.time_base = self._time_base
        codec.thread_count = 1
        codec.gop_size = 1 << 20  # key frames are asked for by time
        _tag_colors(codec, is_rgb)
        if encoder.tag is not None:
            codec.codec_tag = encoder.tag
        return stream

    def _frame(self, image: npt.NDArray[np.uint8]) -> VideoFrame:
        below, right = self._padding
        if below or right:
            image = np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        is_rgb = self._encoder.pixel_format != "yuv420p"
        if self._encoder.pixel_format != "rgb24":
            frame = self._reformatter.reformat(
                frame,
                format=self._encoder.pixel_format,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.JPEG if is_rgb else ColorRange.MPEG,
                dst_colorspace=Colorspace.ITU709,
                interpolation=_SCALING,
                threads=1,
            )
        _tag_colors(frame, is_rgb)
        return frame

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            packets: list[Packet] = self._stream.encode(frame)
        except (av.error.FFmpegError, ValueError) as error:
            size = f"{self.width} x {self.height}"
            message = f"{self.path}: pictures of {size} cannot be coded as {self.coding.codec} ({error})"
            raise VideoError("error", message) from error
        for packet in packets:
            assert packet.pts is not None
            assert packet.pts == packet.dts, (packet.pts, packet.dts)
            packet.duration = self._durations.pop(packet.pts)
            packet.pts = packet.dts = packet.pts + self._earlier
            self._container.mux(packet)

    def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._last_pts is None:
                    raise VideoError("no_frames", f"{self.path}: found no picture to write, expected one or more")
                self._encode(None)
                self._container.close()
        finally:
            discard_output(self._container)


def _tag_colors(of: VideoCodecContext | VideoFrame, is_rgb: bool) -> None:
    of.color_range = ColorRange.JPEG if is_rgb else ColorRange.MPEG
    of.colorspace = _MATRIX_RGB if is_rgb else Colorspace.ITU709
    of.color_primaries = ColorPrimaries.BT709
    of.color_trc = ColorTrc.BT709


def mp4_timescale(time_base: Fraction) -> int:
    """Ticks per second in which an mp4 file has all times of `time_base`, to 0.5e-6 s if that is too fine for it."""
    timescale = time_base.denominator
    if timescale > _MAX_TIMESCALE:
        return _MAX_TIMESCALE
    return timescale * -(-_MIN_TIMESCALE // timescale)


def discard_output(container: av.container.OutputContainer) -> None:
    """Closes a file that is to be thrown away, or is closed already; what writing its end may raise is of no use."""
    try:
        container.close()
    except (av.error.FFmpegError, OSError, ValueError):
        return
