"""Opens a source with PyAV: whitelisted formats and protocols, the right stream, a demuxer that survives damage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import IO, Any

import av
import av.container
import av.error
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from fcvideo.errors import VideoError, describe_error
from fcvideo.video.animation import as_video
from fcvideo.video.inputs import URL_SCHEMES, Source, special_file
from fcvideo.video.kind import is_animated_webp, kind_by_content, kind_by_name
from fcvideo.video.remote import open_patiently, refusal_in

# Demuxers that read one file and nothing else. Left out on purpose: hls, dash, concat, imf, sdp, rtsp, image2, lavfi,
# mlv, vobsub and all that take the names of other files from the file or from its path.
DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,obu,h264,hevc,m4v,mjpeg,vc1,rm,dv,gif,gxf,wtv,nsv,"
    "swf,yuv4mpegpipe,apng,mp3,aac,flac,wav"
)
_PLAYLIST_HEADS = {
    b"#EXTM3U": "an HLS or M3U playlist",
    b"ffconcat": "an FFmpeg concat script",
    b"[playlist]": "a PLS playlist",
    b"v=0": "an SDP description",
}
_PLAYLIST_TAGS = {  # the first element of an XML file
    b"<MPD": "a DASH manifest",
    b"<SmoothStreamingMedia": "a Smooth Streaming manifest",
    b"<smil": "a SMIL playlist",
    b"<asx": "an ASX playlist",
    b"<AssetMap": "an IMF asset map",
    b"<CompositionPlaylist": "an IMF playlist",
}
_HEAD_BYTES = 4096
_DEFAULT_PIXELS = 5_000_000  # that another stream must have more than the default one
_INDEX_BYTES = 4 << 20  # where an mp4's index is looked for
_MAX_DEMUX_ERRORS = 64  # in a row, before the rest of the file is given up


@contextmanager
def open_file(source: Source) -> Iterator[IO[bytes]]:
    """A seekable binary file, local or behind a URL. Errors: VideoError."""
    scheme = source.scheme
    try:
        if scheme is None:
            if special := special_file(source.path):  # which may block whoever opens it
                raise VideoError("refused", f"{source.path}: found {special}, expected a file")
            file: IO[bytes] = open(source.path, "rb")  # noqa: SIM115, PTH123
        elif scheme not in URL_SCHEMES:
            raise VideoError("refused", f"{source.path}: found {scheme}://, expected {', '.join(URL_SCHEMES)}")
        else:  # filesystem(), not fsspec.open(): that would follow chained URLs (a::b)
            file = open_patiently(scheme, source.path)
    except VideoError:
        raise
    except Exception as error:  # each file system raises its own kinds
        if refusal := refusal_in(error):
            raise refusal from error
        raise VideoError("error", f"{source.path}: cannot be opened ({describe_error(error)})") from error
    with file:
        try:
            file.seek(0, os.SEEK_END)
            file.seek(0)
        except (OSError, ValueError) as error:  # fsspec's streams say that they are seekable
            message = f"{source.path}: found a stream without byte ranges, expected a seekable file"
            raise VideoError("error", message) from error
        yield file


def with_kind(source: Source) -> Source:
    """The source with its kind by content; a URL whose suffix tells is not asked. Errors: VideoError."""
    if source.scheme is not None and kind_by_name(source.path) is not None:
        return source
    with open_file(source) as file:
        try:
            return replace(source, kind=kind_by_content(file, source.name) or source.kind)
        except Exception as error:  # each file system raises its own kinds
            raise reading_error(source, error) from error


@contextmanager
def open_video(source: Source, threads: int = 1) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """The container and the video stream that FFmpeg would choose, ready to demux and decode. Errors: VideoError.

    Frame threads lose up to two frames at a damaged end, hence slice threads.
    """
    with _open_container(source) as container:
        stream = _pick_stream(source, container)
        _read_only(container, [stream])
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "SLICE"
        yield container, stream


@contextmanager
def open_sound(source: Source) -> Iterator[tuple[av.container.InputContainer, list[AudioStream]]]:
    """The container and its audio streams of known codecs, perhaps none, ready to demux. Errors: VideoError."""
    with _open_container(source) as container:
        streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
        _read_only(container, streams)
        yield container, streams


@contextmanager
def open_captions(source: Source) -> Iterator[tuple[av.container.InputContainer, list[SubtitleStream]]]:
    """The container, which has the chapters, and its subtitle streams, ready to demux. Errors: VideoError."""
    with _open_container(source) as container:
        streams = list(container.streams.subtitles)
        _read_only(container, streams)
        yield container, streams


@contextmanager
def _open_container(source: Source) -> Iterator[av.container.InputContainer]:
    with open_file(source) as file:
        head = file.read(_HEAD_BYTES)
        _refuse_playlists(source, head)
        file.seek(0)
        # FFmpeg reads a local file faster itself; 'file:' keeps it from seeing a protocol in the name.
        is_local = source.scheme is None and not is_animated_webp(head)
        target: Any = f"file:{source.path}" if is_local else as_video(source, file) if is_animated_webp(head) else file
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file" if is_local else "none"}
        try:
            container = av.open(target, "r", container_options=options, metadata_errors="replace")
        except (av.error.FFmpegError, MemoryError, OSError, ValueError) as error:
            raise _opening_error(source, file, error) from error
        with container:
            yield container


def _read_only(container: av.container.InputContainer, streams: Sequence[Stream]) -> None:
    """The demuxer may skip the bytes of all other streams."""
    kept = {stream.index for stream in streams}
    for other in container.streams:
        if other.index not in kept:
            other.discard = Discard.all


def _refuse_playlists(source: Source, head: bytes) -> None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    kinds = [kind for start, kind in _PLAYLIST_HEADS.items() if text.startswith(start)]
    if text.startswith(b"<"):
        kinds += [kind for tag, kind in _PLAYLIST_TAGS.items() if tag.lower() in text.lower()]
    if kinds:
        raise VideoError("refused", f"{source.path}: found {kinds[0]}, which names other files; expected a video file")


def _opening_error(source: Source, file: IO[bytes], error: BaseException) -> VideoError:
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if not head:
        return VideoError("not_media", f"{source.path}: found an empty file, expected a video")
    if head[4:8] == b"ftyp":
        if is_encrypted(file):
            return encryption_error(source)
        return VideoError("error", f"{source.path}: found an mp4 without a readable index (cut off while written?)")
    if isinstance(error, av.error.InvalidDataError | av.error.ArgumentError):  # unknown, or not on the whitelist
        return VideoError("not_media", f"{source.path}: found no known container, expected a video file")
    return VideoError("error", f"{source.path}: cannot be opened ({describe_error(error)})")


def is_encrypted(file: IO[bytes]) -> bool:
    """Whether an mp4's index, at the file's beginning or end, names a sample entry of common encryption."""
    size = file.seek(0, os.SEEK_END)
    for start in {0, max(size - _INDEX_BYTES, 0)}:
        file.seek(start)
        data = file.read(_INDEX_BYTES)
        if b"encv" in data and b"sinf" in data:
            return True
    return False


def encryption_error(source: Source) -> VideoError:
    return VideoError(
        "refused", f"{source.path}: found an encrypted video (DRM), expected one that plays without a key"
    )


def _pick_stream(source: Source, container: av.container.InputContainer) -> VideoStream:
    streams = _real_streams(container)
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams"
        raise VideoError("no_video", f"{source.path}: found {kinds}, expected a video stream")
    decodable = [s for s in streams if s.codec_context is not None]
    if not decodable:
        raise VideoError("error", f"{source.path}: found a video codec that this FFmpeg cannot decode")
    return max(decodable, key=_preference)


def _preference(stream: VideoStream) -> tuple[bool, int]:
    """As the ffmpeg program chooses: the default stream unless another is much larger; not the picture beside an AVIF's
    frames.
    """
    default_pixels = _DEFAULT_PIXELS if Disposition.default in stream.disposition else 0
    return stream.frames != 1, stream.width * stream.height + default_pixels


def _real_streams(container: av.container.InputContainer) -> list[VideoStream]:
    """All but the pictures that are attached to sound."""
    return [s for s in container.streams.video if Disposition.attached_pic not in s.disposition]


def other_streams(container: av.container.InputContainer, chosen: VideoStream) -> str | None:
    """Names the video streams that are not read, for people."""
    others = [s for s in _real_streams(container) if s.index != chosen.index]
    if not others:
        return None
    named = ", ".join(f"number {s.index} ({s.width} x {s.height})" if s.width else f"number {s.index}" for s in others)
    return f"of its {len(others) + 1} video streams number {chosen.index} is read, not {named}"


_watchers: list[Callable[[], None]] = []


def on_packet(call: Callable[[], None]) -> None:
    """Has `call` called after every packet of any file: a sign of life while packets are counted or passed over."""
    _watchers[:] = [call]


def demux(source: Source, container: av.container.InputContainer, *streams: Stream) -> Iterator[Packet | None]:
    """Packets of the streams in decoding order, the flushing ones last; None stands for an error that was passed over.

    PyAV's own iterator ends at its first error; this one starts it again. A corrupt index raised MemoryError there.
    """
    packets = container.demux(*streams)
    num_errors = 0
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):  # a stream that appeared late: PyAV fails when it comes to flush it
            return
        except (av.error.FFmpegError, MemoryError):
            num_errors += 1
            if num_errors > _MAX_DEMUX_ERRORS:
                return
            packets = container.demux(*streams)
            yield None
        except Exception as error:  # a URL's connection
            raise reading_error(source, error) from error
        else:
            num_errors = 0
            for call in _watchers:
                call()
            yield packet


def seek_to_key(
    source: Source, container: av.container.InputContainer, stream: VideoStream, key_pts: int, key_dts: int
) -> Iterator[Packet | None] | None:
    """Packets from the key frame with these time stamps on; None if jumping there does not find it."""
    try:
        container.seek(min(key_pts, key_dts), stream=stream)
    except av.error.FFmpegError:
        return None
    packets = demux(source, container, stream)
    for packet in packets:
        if packet is None or packet.pts is None:
            return None
        if packet.is_keyframe and not packet.is_discard:
            if packet.pts > key_pts:  # the jump went too far
                return None
            if packet.pts == key_pts:
                return chain([packet], packets)
    return None


def is_flush(packet: Packet) -> bool:
    return packet.size == 0 and packet.pts is None and packet.dts is None


def reading_error(source: Source, error: BaseException) -> VideoError:
    return VideoError("error", f"{source.path}: reading failed ({describe_error(error)})")
