"""The source's text subtitles and chapters for a new mp4. What an mp4 does not take, pictures of letters, is named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from fcvideo.video.container import demux, is_flush, open_captions
from fcvideo.video.inputs import Source
from fcvideo.video.sound import Cut

_TIME_BASE = Fraction(1, 1000)  # a finer one could not count the longest silences in the 32 bits of an mp4
_ASS_FIELDS_BEFORE_TEXT = 8
_PLAIN = r"{\b0\i0\u0}"  # what the encoder makes nothing of when it is written {\r}
_DRAWING = re.compile(r"\{[^}]*\\p[1-9]")  # shapes, which are no text


class _Line(NamedTuple):
    """What is to be read from one time to another, in 1/1000 s; `text` in ASS's notation."""

    start: int
    end: int
    text: str


class Captions:
    """All text subtitles and the chapters of one source. `left_out` names the subtitles that are not among them."""

    def __init__(
        self, source: Source | None, container: InputContainer | None, streams: Sequence[SubtitleStream]
    ) -> None:
        self._source, self._container = source, container
        self._streams = [stream for stream in streams if _is_text(stream)]
        self.left_out = tuple(_describe(stream) for stream in streams if not _is_text(stream))
        self.num_chapters = 0
        self._written: list[tuple[SubtitleStream, list[_Line]]] = []

    @property
    def num_subtitles(self) -> int:
        """Of the streams that show something."""
        return len(self._written)

    def add_to(self, output: OutputContainer, cut: Cut | None, shift_seconds: Fraction) -> None:
        """Streams and chapters, moved by `shift_seconds` after the cut."""
        lines = self._read(cut, shift_seconds)
        for stream in self._streams:
            if not lines[stream.index]:
                continue
            made = output.add_stream("mov_text")
            made.time_base = made.codec_context.time_base = _TIME_BASE
            made.codec_context.subtitle_header = stream.codec_context.subtitle_header
            for name in ("language", "title", "handler_name"):
                if name in stream.metadata:
                    made.metadata[name] = stream.metadata[name]
            made.disposition = stream.disposition
            self._written.append((made, lines[stream.index]))
        chapters = []
        for chapter in [] if self._container is None else self._container.chapters():
            ticks, time_base = (chapter["start"], chapter["end"]), chapter["time_base"] or _TIME_BASE
            start, end = (_moved(tick * time_base, cut, shift_seconds) for tick in ticks)
            if start < end:
                chapters.append(chapter | {"start": start, "end": end, "time_base": _TIME_BASE})
        if chapters:
            output.set_chapters(chapters)
        self.num_chapters = len(chapters)

    def _read(self, cut: Cut | None, shift_seconds: Fraction) -> dict[int, list[_Line]]:
        """By stream."""
        lines: dict[int, list[_Line]] = {stream.index: [] for stream in self._streams}
        if self._source is not None and self._container is not None and lines:
            for packet in demux(self._source, self._container, *self._streams):
                if packet is not None and not is_flush(packet):
                    lines[packet.stream.index] += _read(packet, cut, shift_seconds)
        return lines

    def packets(self) -> Iterator[tuple[Fraction, Packet]]:
        """(time in seconds, packet) ready to write, in order of time."""
        shown = [(line, i) for i, (_, lines) in enumerate(self._written) for line in _one_at_a_time(lines)]
        for line, i in sorted(shown):
            yield line.start * _TIME_BASE, _encode(line, self._written[i][0])


@contextmanager
def open_source(source: Source | None) -> Iterator[Captions]:
    """None gives none. Errors: VideoError."""
    if source is None:
        yield Captions(None, None, [])
        return
    with open_captions(source) as (container, streams):
        yield Captions(source, container, streams)


def _is_text(stream: SubtitleStream) -> bool:
    return stream.codec_context is not None and stream.codec_context.codec.text_sub


def _describe(stream: SubtitleStream) -> str:
    codec = "of an unknown codec" if stream.codec_context is None else stream.codec_context.name
    language = stream.metadata.get("language")
    return f"subtitles {codec}" + (f" ({language})" if language else "")


def _moved(seconds: Fraction, cut: Cut | None, shift_seconds: Fraction) -> int:
    """In 1/1000 s of the new file, within the cut and not before 0."""
    if cut is not None:
        seconds = min(max(seconds, cut.start_seconds), cut.end_seconds)
    return max(round((seconds + shift_seconds) / _TIME_BASE), 0)


def _read(packet: Packet, cut: Cut | None, shift_seconds: Fraction) -> list[_Line]:
    """Nothing for what shows nothing, or cannot be decoded."""
    assert isinstance(packet.stream, SubtitleStream)
    try:
        decoded = packet.stream.codec_context.decode2(packet)
    except (av.error.FFmpegError, ValueError, MemoryError):
        return []
    if decoded is None or packet.pts is None:
        return []
    texts = [rect.ass.decode("utf-8", "replace") for rect in decoded if isinstance(rect, AssSubtitle)]
    texts = [text.split(",", _ASS_FIELDS_BEFORE_TEXT)[-1].strip().replace(r"{\r}", _PLAIN) for text in texts]
    text = r"\N".join(text for text in texts if text and not _DRAWING.search(text))
    start = packet.pts * packet.time_base
    lasts = packet.duration * packet.time_base if packet.duration else Fraction(decoded.end_display_time, 1000)
    line = _Line(_moved(start, cut, shift_seconds), _moved(start + lasts, cut, shift_seconds), text)
    return [line] if text and line.start < line.end else []


def _one_at_a_time(lines: Sequence[_Line]) -> Iterator[_Line]:
    """Lines that overlap, which an mp4 cannot have, become one of all that is to be read then."""
    times = sorted({time for line in lines for time in (line.start, line.end)})
    waiting, current = sorted(lines, key=lambda line: line.start)[::-1], list[_Line]()
    for start, end in pairwise(times):
        current = [line for line in current if line.end > start]
        while waiting and waiting[-1].start <= start:
            current.append(waiting.pop())
        if current:
            yield _Line(start, end, rf"{_PLAIN}\N".join(line.text for line in current))  # styles end with their line


def _encode(line: _Line, output: SubtitleStream) -> Packet:
    text = f"0,0,Default,,0,0,0,,{line.text}".encode()
    packet = output.codec_context.encode_subtitle(SubtitleSet.create(text, 0, line.end - line.start))
    packet.pts = packet.dts = line.start
    packet.duration = line.end - line.start
    packet.time_base, packet.stream, packet.is_keyframe = _TIME_BASE, output, True
    return packet
