"""Joins segment files and the source's sound into one mp4 by copying packets; no picture is coded a second time."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor, lcm
from pathlib import Path

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from fcvideo.atomic import written_atomically
from fcvideo.errors import VideoError
from fcvideo.video.captions import open_source
from fcvideo.video.container import demux, is_flush, open_video
from fcvideo.video.inputs import Source
from fcvideo.video.provenance import Mark
from fcvideo.video.sound import Cut, open_tracks
from fcvideo.video.write import EARLIER_TAG, discard_output

_MAX_MOVIE_TIMESCALE = (1 << 31) - 1
_FAR_SECONDS = 60  # players wait for a start that is later than 0: of a live recording's clock, for years


@dataclass(frozen=True)
class Joined:
    """What was written. The file's times are the source's plus `shift_seconds`; `start_seconds` is of the first frame.

    `sound`: 'copied' to the bit, 'encoded' to AAC where an mp4 cannot hold the source's codec in any stream, or 'none'.
    `left_out`: subtitles that an mp4 does not take, in words.
    """

    num_frames: int
    start_seconds: float
    duration_seconds: float  # of the pictures
    shift_seconds: float
    sound: str
    num_sound_packets: int
    num_sound_skipped: int  # damaged beyond use
    num_subtitles: int
    num_chapters: int
    left_out: tuple[str, ...]


def join_segments(
    parts: Sequence[Path],
    out: Path,
    *,
    sound: Source | None,
    mark: Mark,
    is_excerpt: bool = False,
    captions: Source | None = None,
) -> Joined:
    """One mp4 of the parts in order, its index in front, all times the source's own; whole or not at all.

    `sound`: the source whose audio streams are copied, None for a silent video; `captions`: that whose text subtitles
    and chapters are. `is_excerpt`: the parts are a stretch of the source, so time starts at 0 with the first picture,
    and sound and captions are cut to the pictures. Pictures before 0, which an mp4 cannot show, move everything; a
    clock that starts more than a minute after 0 is moved back by whole seconds, to start within the first one.
    Memory: the files' indices alone, about 35 MB an hour.
    Errors: VideoError (parts that do not fit together; a source that cannot be opened), OutputError.
    """
    assert parts
    failure: av.error.FFmpegError | None = None
    for own_captions in (captions, None) if captions is not None else (None,):
        for may_copy in (True, False) if sound is not None else (True,):  # some packets only fail when written
            try:
                joined = _join(parts, out, sound, mark, is_excerpt, may_copy, own_captions)
            except av.error.FFmpegError as error:
                failure = error
                continue
            lost = ("all subtitles and chapters",) if captions != own_captions else ()
            return replace(joined, left_out=joined.left_out + lost)
    raise VideoError("error", f"{out}: these parts and sound cannot be one mp4 ({failure})") from failure


def _join(
    parts: Sequence[Path],
    out: Path,
    sound: Source | None,
    mark: Mark,
    is_excerpt: bool,
    may_copy: bool,
    own_captions: Source | None,
) -> Joined:
    span = Cut(_span(parts[0]).start_seconds, _span(parts[-1]).end_seconds)
    cut = span if is_excerpt else None
    num_packets: Counter[str] = Counter()
    with written_atomically(out) as unfinished:
        with ExitStack() as stack:
            tracks = stack.enter_context(open_tracks(sound, may_copy))
            captions = stack.enter_context(open_source(own_captions))
            _, template = stack.enter_context(open_video(_source(parts[0])))
            shift = _shift(span, tracks.start_seconds, is_excerpt)
            container = _open_output(unfinished, template, tracks.rates)
            stack.callback(discard_output, container)
            container.metadata["comment"] = mark.text()
            stream = _add_video(container, template)
            tracks.add_to(container)
            captions.add_to(container, cut, shift)
            pictures = _picture_packets(parts, stream, mark, shift)
            streams = pictures, tracks.packets(cut, shift), captions.packets()
            for _, packet in heapq.merge(*streams, key=lambda timed: timed[0]):
                num_packets[packet.stream.type] += 1
                container.mux(packet)
            container.close()
        with unfinished.open("ab") as file:
            file.write(mark.xmp_box())
    return Joined(
        num_frames=num_packets["video"],
        start_seconds=float(span.start_seconds + shift),
        duration_seconds=float(span.end_seconds - span.start_seconds),
        shift_seconds=float(shift),
        sound=tracks.kind,
        num_sound_packets=num_packets["audio"],
        num_sound_skipped=tracks.num_skipped,
        num_subtitles=captions.num_subtitles,
        num_chapters=captions.num_chapters,
        left_out=captions.left_out,
    )


def _shift(span: Cut, sound_start_seconds: Fraction | None, is_excerpt: bool) -> Fraction:
    """What is added to the source's times. Whole seconds where a choice is left: no clock of any stream rounds them."""
    if is_excerpt or span.start_seconds < 0:
        return -span.start_seconds
    start = min(span.start_seconds, span.start_seconds if sound_start_seconds is None else sound_start_seconds)
    return Fraction(-floor(start)) if start > _FAR_SECONDS else Fraction(0)


def _source(part: Path) -> Source:
    return Source(str(part), part.name)


def _span(part: Path) -> Cut:
    """From the first picture to the end of the last one."""
    with open_video(_source(part)) as (container, stream):
        assert stream.time_base is not None
        start = (stream.start_time or 0) * stream.time_base - _earlier_seconds(container)
        return Cut(start, start + (stream.duration or 0) * stream.time_base)


def _earlier_seconds(container: InputContainer) -> Fraction:
    return Fraction(container.metadata.get(EARLIER_TAG, "0"))


def _open_output(path: Path, template: VideoStream, sound_rates: Sequence[int]) -> OutputContainer:
    """The movie's own clock, in which edit lists say when a stream starts, holds every stream's ticks exactly."""
    assert template.time_base is not None
    timescale = template.time_base.denominator
    movie_timescale = lcm(timescale, *sound_rates)
    return av.open(
        f"file:{path}",
        "w",
        format="mp4",
        container_options={
            "movflags": "faststart",
            "video_track_timescale": str(timescale),
            "movie_timescale": str(movie_timescale if movie_timescale <= _MAX_MOVIE_TIMESCALE else timescale),
        },
    )


def _add_video(container: OutputContainer, template: VideoStream) -> VideoStream:
    stream = container.add_stream_from_template(template, opaque=True)
    if template.codec_context.name == "hevc":
        stream.codec_context.codec_tag = "hvc1"
    return stream


def _picture_packets(
    parts: Sequence[Path], output: VideoStream, mark: Mark, shift_seconds: Fraction
) -> Iterator[tuple[Fraction, Packet]]:
    """(time in seconds, packet) of all parts in turn, with the mark in every key frame. Errors: VideoError."""
    expected: tuple[object, ...] | None = None
    last: Fraction | None = None
    for part in parts:
        with open_video(_source(part)) as (container, stream):
            codec = stream.codec_context
            found = codec.name, codec.width, codec.height, stream.time_base, codec.extradata
            expected = expected or found
            if found != expected:
                raise VideoError("error", f"{part}: found another coding, expected that of {parts[0]}")
            shift = shift_seconds - _earlier_seconds(container)
            for packet in demux(_source(part), container, stream):
                if packet is None:
                    raise VideoError("error", f"{part}: found damage, expected a finished segment")
                if is_flush(packet):
                    continue
                assert packet.pts is not None
                seconds = packet.pts * packet.time_base + shift
                if last is not None and seconds <= last:
                    raise VideoError("error", f"{part}: starts at {float(seconds)} s, expected after {float(last)} s")
                last = seconds
                yield seconds, _marked(packet, mark, codec.name, output, shift)


def _marked(packet: Packet, mark: Mark, codec: str, output: VideoStream, shift_seconds: Fraction) -> Packet:
    assert packet.pts is not None
    made = Packet(mark.within(codec, bytes(packet))) if packet.is_keyframe else packet
    made.time_base = packet.time_base
    made.pts = made.dts = packet.pts + round(shift_seconds / packet.time_base)
    made.duration = packet.duration
    made.is_keyframe = packet.is_keyframe
    made.stream = output
    return made
