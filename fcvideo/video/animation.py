"""Animated WebP, which FFmpeg does not read: decoded by Pillow and packed, without loss, as a video in memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import IO

import av
import numpy as np
from PIL import Image, ImageSequence

from fcvideo.errors import VideoError
from fcvideo.video.inputs import Source
from fcvideo.video.srgb import DAMAGED, check_size, to_rgb, too_large

_MAX_PIXELS = 150_000_000  # of all pictures, 450 MB at most: a minute of 320 x 240 and 30 pictures a second
_PIXELS = "bgr0"
_MILLISECOND = Fraction(1, 1000)
_USUAL_MS = 100  # of a picture that names no duration, as browsers have it


def as_video(source: Source, file: IO[bytes]) -> io.BytesIO:
    """A Matroska file of the pictures over white, each at its own time to the millisecond. Errors: VideoError."""
    packed = io.BytesIO()
    try:
        with Image.open(file, formats=("WEBP",)) as pictures, av.open(packed, "w", format="matroska") as container:
            check_size(source, pictures)
            num_pixels = pictures.width * pictures.height * getattr(pictures, "n_frames", 1)
            if num_pixels > _MAX_PIXELS:
                found = f"an animation of {num_pixels:,} pixels in all"
                raise VideoError("error", f"{source.path}: found {found}, expected at most {_MAX_PIXELS:,}")
            frames = _frames(source, pictures)
            first = next(frames)
            stream = container.add_stream("ffv1", rate=Fraction(1000, first.duration))
            stream.width, stream.height, stream.pix_fmt = pictures.width, pictures.height, _PIXELS
            stream.time_base = stream.codec_context.time_base = _MILLISECOND
            durations = {}
            for frame in chain([first], frames, [None]):
                if frame is not None:
                    durations[frame.pts] = frame.duration
                for packet in stream.encode(frame):
                    packet.duration = durations[packet.pts]
                    container.mux(packet)
    except Image.DecompressionBombError as error:
        raise too_large(source, str(error)) from error
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise VideoError(
            "error", f"{source.path}: found a damaged animation ({reason}), expected a whole one"
        ) from error
    packed.seek(0)
    return packed


def _frames(source: Source, pictures: Image.Image) -> Iterator[av.VideoFrame]:
    pts = 0
    for picture in ImageSequence.Iterator(pictures):
        frame = av.VideoFrame.from_ndarray(np.asarray(to_rgb(source, picture)), "rgb24").reformat(format=_PIXELS)
        frame.time_base, frame.pts = _MILLISECOND, pts
        frame.duration = max(int(picture.info.get("duration") or _USUAL_MS), 1)
        pts += frame.duration
        yield frame
