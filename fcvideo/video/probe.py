"""What a video file says of itself, and a cheap fingerprint of its content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av

from fcvideo.errors import VideoError, describe_error
from fcvideo.video.container import (
    demux,
    encryption_error,
    is_encrypted,
    open_file,
    open_video,
    other_streams,
    reading_error,
)
from fcvideo.video.cropping import Crop, crop_in
from fcvideo.video.decode import decode_in_order
from fcvideo.video.inputs import Source
from fcvideo.video.kind import HEAD_BYTES, is_animated_webp
from fcvideo.video.picture import orientation
from fcvideo.video.still import decode_still

_NUM_BLOCKS = 16
_BLOCK_BYTES = 1 << 16
_HASHED_BYTES = 1 << 22  # at once


@dataclass(frozen=True)
class VideoInfo:
    """`width` and `height` are of the first picture, upright; None where the file does not say.

    An image is a video of one frame at time 0.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation_deg: int
    is_mirrored: bool
    average_rate: float | None
    duration_seconds: float | None
    start_seconds: float | None
    num_frames_from_header: int | None
    size_bytes: int
    pixel_aspect: Fraction  # width by height of one pixel, upright; players stretch the picture by it
    other_streams: str | None = None  # names the video streams that are not read, for people
    modified_seconds: float | None = None  # as `edition` has them; `probe` leaves them out
    content_hash: str | None = None


def probe(source: Source) -> VideoInfo:
    """Opens the file and decodes up to the first picture. Errors: VideoError."""
    size_bytes, is_webp, crop = _first_look(source)
    if source.is_image:
        return _probe_image(source, size_bytes)
    with open_video(source) as (container, stream):
        pictures = decode_in_order(demux(source, container, stream), stream)
        frame = next((picture.frame for picture in pictures if picture.frame is not None), None)
        if frame is None:
            with open_file(source) as file:
                if is_encrypted(file):
                    raise encryption_error(source)
            raise VideoError("no_frames", f"{source.path}: found a video stream without a picture, expected frames")
        rotation_deg, is_mirrored = orientation(frame)
        is_turned = rotation_deg % 180 == 90
        left, top, right, bottom = (crop or Crop(0, 0, 0, 0)).window(frame.width, frame.height)
        width, height = right - left, bottom - top
        pixel_aspect = stream.codec_context.sample_aspect_ratio or Fraction(1)  # 0 where the file does not say
        duration_seconds = _seconds(stream.duration, stream.time_base)
        if duration_seconds is None:
            duration_seconds = _seconds(container.duration, Fraction(1, av.time_base))
        return VideoInfo(
            container="webp" if is_webp else container.format.name,
            codec="webp" if is_webp else stream.codec_context.name,
            width=height if is_turned else width,
            height=width if is_turned else height,
            rotation_deg=rotation_deg,
            is_mirrored=is_mirrored,
            average_rate=float(stream.average_rate) if stream.average_rate else None,
            duration_seconds=duration_seconds,
            start_seconds=_seconds(stream.start_time, stream.time_base),
            num_frames_from_header=stream.frames or None,
            size_bytes=size_bytes,
            pixel_aspect=1 / pixel_aspect if is_turned else pixel_aspect,
            other_streams=other_streams(container, stream),
        )


def _probe_image(source: Source, size_bytes: int) -> VideoInfo:
    still = decode_still(source.path)
    height, width, _ = still.image.shape
    return VideoInfo(
        container="image",
        codec=still.format,
        width=width,
        height=height,
        rotation_deg=0,
        is_mirrored=False,
        pixel_aspect=Fraction(1),
        average_rate=None,
        duration_seconds=0.0,
        start_seconds=0.0,
        num_frames_from_header=1,
        size_bytes=size_bytes,
    )


def _seconds(pts: int | None, time_base: Fraction | None) -> float | None:
    return None if pts is None or time_base is None else float(pts * time_base)


def fingerprint(source: Source) -> str:
    """32 hex digits from the file's size and 16 blocks of 64 KiB spread over it: all of a file up to 1 MiB.

    Errors: VideoError.
    """
    digest = hashlib.sha256()
    with open_file(source) as file:
        try:
            size = file.seek(0, os.SEEK_END)
            digest.update(size.to_bytes(8, "little"))
            last_start = max(size - _BLOCK_BYTES, 0)
            for start in sorted({last_start * i // (_NUM_BLOCKS - 1) for i in range(_NUM_BLOCKS)}):
                file.seek(start)
                digest.update(file.read(_BLOCK_BYTES))
        except Exception as error:  # each file system raises its own kinds
            raise reading_error(source, error) from error
    return digest.hexdigest()[:32]


class Edition(NamedTuple):
    """What tells an edited file from the one that was read. All but the fingerprint are None for a URL."""

    video_id: str  # the fingerprint, which a copy shares and which tables name
    modified_seconds: float | None = None  # the file's date, in seconds since 1970
    content_hash: str | None = None  # SHA-256 of the whole file

    def is_same_content(self, video_id: str, content_hash: str | None) -> bool:
        """Records of earlier versions have no hash: then the fingerprint decides."""
        return self.video_id == video_id and (None in (self.content_hash, content_hash) or self[2] == content_hash)


def edition(source: Source, tick: Callable[[], None] = lambda: None) -> Edition:
    """Reads the whole file, if it is local: 0.6 s a GB of CPU time; `tick` hears of every block. Errors: VideoError."""
    modified_seconds = _modified_seconds(source)
    return Edition(fingerprint(source), modified_seconds, _content_hash(source, tick))


def is_unchanged(source: Source, known: Edition, tick: Callable[[], None] = lambda: None) -> bool:
    """Of a file whose fingerprint and date are the known ones nothing more is read. Errors: VideoError."""
    if fingerprint(source) != known.video_id:
        return False
    if known.content_hash is None or known.modified_seconds == _modified_seconds(source):
        return True
    return _content_hash(source, tick) in (known.content_hash, None)


def dated_fingerprint(source: Source) -> str:
    """The fingerprint and the date, 'a1b2..@1735689600.0'; a URL has no date. Errors: VideoError."""
    modified_seconds = _modified_seconds(source)
    return fingerprint(source) + ("" if modified_seconds is None else f"@{modified_seconds}")


def _modified_seconds(source: Source) -> float | None:
    if source.scheme is not None:
        return None
    try:
        return Path(source.path).stat().st_mtime
    except OSError as error:
        raise VideoError("error", f"{source.path}: cannot be opened ({describe_error(error)})") from error


def _content_hash(source: Source, tick: Callable[[], None]) -> str | None:
    if source.scheme is not None:
        return None
    with open_file(source) as file:
        try:
            digest = hashlib.sha256()
            while block := file.read(_HASHED_BYTES):
                digest.update(block)
                tick()
            return digest.hexdigest()
        except OSError as error:
            raise reading_error(source, error) from error


def _first_look(source: Source) -> tuple[int, bool, Crop | None]:
    """Size in bytes, whether it is an animated WebP, and what of its pictures is shown."""
    with open_file(source) as file:
        try:
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(0)
            is_webp = is_animated_webp(file.read(HEAD_BYTES))
            file.seek(0)
            return size_bytes, is_webp, crop_in(file)
        except Exception as error:  # each file system raises its own kinds
            raise reading_error(source, error) from error
