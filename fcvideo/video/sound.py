"""The source's sound for a new mp4: packets copied to the bit, or coded as AAC where an mp4 cannot hold them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import NamedTuple

import av.error
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from fcvideo.video.container import demux, is_flush, open_sound
from fcvideo.video.inputs import Source

_COPIED_CODECS = frozenset(("aac", "mp3", "mp3float", "mp2", "ac3", "eac3", "opus", "flac", "alac", "vorbis"))
_ADTS_FORMATS = frozenset(("mpegts", "aac"))  # where AAC says in each packet what mp4 says once; the muxer moves it
_ADTS_SYNC = b"\xff"
_MIN_MP3_RATE = 16_000  # of mp3 in mp4
_AAC_RATES = frozenset((96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350))
_AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_AAC_BITS_PER_CHANNEL = 96_000
# Kept before a cut, not to be heard: decoders need up to this much to come in right (Opus 80 ms, MP3's bit reservoir).
_LEAD_SECONDS = Fraction(1, 10)
_MAX_JITTER_SECONDS = Fraction(1, 50)
_CLOCK_RESTART_SECONDS = 1  # as for pictures: a larger step back is a recording joined to another


class Cut(NamedTuple):
    """The stretch of the source's time that sound is kept of."""

    start_seconds: Fraction
    end_seconds: Fraction


class SoundTracks:
    """All audio streams of one source on their way into one file. `num_skipped` counts packets damaged beyond use."""

    def __init__(
        self, source: Source | None, container: InputContainer | None, streams: list[AudioStream], may_copy: bool
    ) -> None:
        self.num_skipped = 0
        self._source, self._container = source, container
        self._tracks = {
            stream.index: _Track(stream, may_copy and _can_be_copied(container, stream), _has_adts(container, stream))
            for stream in streams
        }

    @property
    def kind(self) -> str:
        if not self._tracks:
            return "none"
        return "copied" if all(track.is_copied for track in self._tracks.values()) else "encoded"

    @property
    def rates(self) -> list[int]:
        """Samples per second, of each stream to be written."""
        return [track.rate for track in self._tracks.values()]

    @property
    def start_seconds(self) -> Fraction | None:
        """Of the earliest stream, as its header says it; None where none does."""
        starts = [(track.source.start_time, track.source.time_base) for track in self._tracks.values()]
        return min((pts * base for pts, base in starts if pts is not None and base is not None), default=None)

    def add_to(self, output: OutputContainer) -> None:
        for track in self._tracks.values():
            track.add_to(output)

    def packets(self, cut: Cut | None, shift_seconds: Fraction) -> Iterator[tuple[Fraction, Packet]]:
        """(time in seconds, packet) ready to write, each stream in order, moved by `shift_seconds` after the cut."""
        if self._container is None or not self._tracks:
            return
        assert self._source is not None
        going = set(self._tracks)
        for packet in demux(self._source, self._container, *(track.source for track in self._tracks.values())):
            if packet is None:
                self.num_skipped += 1
                continue
            track = self._tracks[packet.stream.index]
            if packet.stream.index not in going:
                continue
            for ready in track.take(packet):
                seconds = _seconds(ready)
                if cut is not None and seconds >= cut.end_seconds:
                    going.discard(track.source.index)
                    break
                if _is_kept(ready, cut):
                    _cut_end(ready, cut)
                    _move(ready, shift_seconds)
                    yield seconds + shift_seconds, ready
            if not going:
                break
        self.num_skipped += sum(track.num_skipped for track in self._tracks.values())


@contextmanager
def open_tracks(source: Source | None, may_copy: bool = True) -> Iterator[SoundTracks]:
    """None gives no tracks; without `may_copy` all are coded as AAC. Errors: VideoError."""
    if source is None:
        yield SoundTracks(None, None, [], may_copy)
        return
    with open_sound(source) as (container, streams):
        yield SoundTracks(source, container, streams, may_copy)


def _can_be_copied(container: InputContainer | None, stream: AudioStream) -> bool:
    codec = stream.codec_context
    if container is None or codec.name not in _COPIED_CODECS:
        return False
    if codec.name == "aac":
        return bool(codec.extradata) or _has_adts(container, stream)
    return not codec.name.startswith("mp") or codec.sample_rate >= _MIN_MP3_RATE


def _has_adts(container: InputContainer | None, stream: AudioStream) -> bool:
    return container is not None and container.format.name in _ADTS_FORMATS and stream.codec_context.name == "aac"


class _Track:
    """One stream: puts its packets' times right, and decodes and encodes them unless they are copied."""

    def __init__(self, source: AudioStream, is_copied: bool, has_adts: bool) -> None:
        self.source = source
        self.is_copied = is_copied
        self._has_adts = has_adts
        own_rate = source.codec_context.sample_rate
        self.rate = own_rate if is_copied or own_rate in _AAC_RATES else 48_000
        self.num_skipped = 0
        self._output: AudioStream | None = None
        self._offset = 0  # of a clock that started again
        self._end: int | None = None  # of the last packet, in the source's time base
        self._last_tick: int | None = None  # of the output, which counts samples
        self._is_heard = False
        self._heard_to: Fraction | None = None  # decoded, in seconds

    def add_to(self, output: OutputContainer) -> None:
        if self.is_copied:
            stream = output.add_stream_from_template(self.source)
        else:
            layout = _AAC_LAYOUTS.get(self.source.codec_context.layout.nb_channels, "stereo")
            stream = output.add_stream("aac", rate=self.rate)
            stream.codec_context.layout = AudioLayout(layout)
            stream.codec_context.bit_rate = stream.codec_context.layout.nb_channels * _AAC_BITS_PER_CHANNEL
        for name in ("language", "title", "handler_name"):
            if name in self.source.metadata:
                stream.metadata[name] = self.source.metadata[name]
        stream.disposition = self.source.disposition
        self._output = stream

    def take(self, packet: Packet) -> Iterator[Packet]:
        """The output's packets that come of one of the source's, in increasing time."""
        assert self._output is not None
        if not is_flush(packet) and not self._put_right(packet):
            self.num_skipped += 1
            return
        made = ([] if is_flush(packet) else [packet]) if self.is_copied else self._encode(packet)
        for ready in made:
            seconds = _seconds(ready)
            tick = round(seconds * self.rate)
            if self._last_tick is not None and tick <= self._last_tick:
                self.num_skipped += 1
                continue
            if ready.is_discard and (self._is_heard or seconds < -_LEAD_SECONDS):
                continue  # cut out by the source's edit list, and not what the decoder needs before the first sound
            self._is_heard = self._is_heard or not ready.is_discard
            self._last_tick = tick
            ready.stream = self._output
            yield ready

    def _put_right(self, packet: Packet) -> bool:
        """Gives the packet a time where it has none, and goes on where a clock starts again; False: of no use."""
        pts = packet.dts if packet.pts is None else packet.pts
        if not packet.size or (self._has_adts and bytes(packet)[:1] != _ADTS_SYNC):
            return False
        if pts is None:
            pts = self._end or 0
        else:
            pts += self._offset
            if self._end is not None and self._end - pts > _CLOCK_RESTART_SECONDS / packet.time_base:
                self._offset += self._end - pts
                pts = self._end
        packet.pts = packet.dts = pts  # sound is shown in the order in which it is stored
        self._end = pts + (packet.duration or 0)
        return True

    def _encode(self, packet: Packet) -> list[Packet]:
        assert self._output is not None
        try:
            frames = self.source.decode(None if is_flush(packet) else packet)
        except (av.error.FFmpegError, MemoryError):
            self.num_skipped += 1
            return []
        for frame in frames:
            self._count_samples(frame)
        made = []
        for each in (*frames, None) if is_flush(packet) else frames:
            try:
                made += self._output.encode(each)
            except (av.error.FFmpegError, ValueError):  # samples that are no numbers; a change of rate or channels
                self.num_skipped += 1
        return made

    def _count_samples(self, frame: AudioFrame) -> None:
        """Times by samples, where the source's are coarse (1/1000 s) or missing; its own after a gap."""
        start = self._heard_to
        if frame.pts is not None and frame.time_base is not None:
            own = frame.pts * frame.time_base
            if start is None or abs(own - start) > _MAX_JITTER_SECONDS:
                start = own
        frame.pts = round((start or 0) * frame.sample_rate)
        frame.time_base = Fraction(1, frame.sample_rate)
        self._heard_to = (frame.pts + frame.samples) * frame.time_base


def _seconds(packet: Packet) -> Fraction:
    assert packet.dts is not None
    return packet.dts * packet.time_base


def _is_kept(packet: Packet, cut: Cut | None) -> bool:
    duration = (packet.duration or 0) * packet.time_base
    return cut is None or _seconds(packet) + duration > cut.start_seconds - _LEAD_SECONDS


def _cut_end(packet: Packet, cut: Cut | None) -> None:
    if cut is not None and packet.duration:
        left = int((cut.end_seconds - _seconds(packet)) / packet.time_base)
        packet.duration = max(1, min(packet.duration, left))


def _move(packet: Packet, shift_seconds: Fraction) -> None:
    assert packet.dts is not None
    packet.pts = packet.dts = packet.dts + round(shift_seconds / packet.time_base)
