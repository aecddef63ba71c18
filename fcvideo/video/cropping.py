"""The part of the picture that a container says is to be shown: `clap` of MP4 and QuickTime, PixelCrop of Matroska.

FFmpeg reads both, but PyAV does not hand them on. Of several video tracks the first one's counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import IO, NamedTuple

from fcvideo.video.container import open_file, reading_error
from fcvideo.video.inputs import Source

_MAX_ELEMENTS = 100_000  # that are looked at: a file of empty boxes may not keep us
_SAMPLE_ENTRY_BYTES = 86  # of a video track, before the boxes in it
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675  # of Matroska
_TRACKS, _TRACK, _TYPE, _VIDEO = 0x1654AE6B, 0xAE, 0x83, 0xE0
_CROPS = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # left, top, right, bottom


class Crop(NamedTuple):
    """Pixels to cut from each side of the coded picture, before it is turned."""

    left: int
    top: int
    right: int
    bottom: int

    def window(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what is shown of a picture; all of it if nothing would be left."""
        left, top, right, bottom = self.left, self.top, width - self.right, height - self.bottom
        return (left, top, right, bottom) if left < right and top < bottom else (0, 0, width, height)


def container_crop(source: Source) -> Crop | None:
    """None where the whole picture is shown. Errors: VideoError."""
    with open_file(source) as file:
        try:
            return crop_in(file)
        except Exception as error:  # a URL's connection
            raise reading_error(source, error) from error


def crop_in(file: IO[bytes]) -> Crop | None:
    """As `container_crop`, of an open file. Errors: those of a URL's file system."""
    try:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        crop = None
        if int.from_bytes(head[:4]) == _EBML:
            crop = _of_matroska(file, size)
        elif head[4:] in (b"ftyp", b"moov", b"wide", b"free", b"skip", b"mdat"):
            crop = _of_mp4(file, size)
    except (ValueError, ZeroDivisionError, IndexError):  # FFmpeg will say what is wrong with the file
        return None
    return crop if crop is not None and any(crop) and min(crop) >= 0 else None


class _Element(NamedTuple):
    kind: int
    start: int  # of the content
    end: int


def _of_mp4(file: IO[bytes], size: int) -> Crop | None:
    for movie in _boxes(file, 0, size, b"moov"):
        for track in _boxes(file, movie.start, movie.end, b"trak"):
            for media in _boxes(file, track.start, track.end, b"mdia"):
                if _handler(file, media) == b"vide":
                    return _clean_aperture(file, media)
    return None


def _handler(file: IO[bytes], media: _Element) -> bytes:
    box = next(_boxes(file, media.start, media.end, b"hdlr"), None)
    return b"" if box is None else _bytes(file, box.start + 8, 4)


def _clean_aperture(file: IO[bytes], media: _Element) -> Crop | None:
    """Of the first kind of sample in the track."""
    table = media
    for kind in (b"minf", b"stbl", b"stsd"):
        table = next(_boxes(file, table.start, table.end, kind), _Element(0, 0, 0))
    entry = next(_boxes(file, table.start + 8, table.end), None)  # after version, flags and the number of entries
    if entry is None:
        return None
    start = entry.start - 8
    clap = next(_boxes(file, start + _SAMPLE_ENTRY_BYTES, entry.end, b"clap"), None)
    if clap is None:
        return None
    width, height = _numbers(_bytes(file, start + 32, 4), 2)
    return _cut(width, height, _numbers(_bytes(file, clap.start, 32), 4, is_signed=True))


def _cut(width: int, height: int, numbers: list[int]) -> Crop:
    """From the aperture's width and height and the offset of its middle, each a numerator and a denominator."""
    shown_width, shown_height, right, down = (Fraction(*numbers[i : i + 2]) for i in range(0, 8, 2))
    left, top = int((width - shown_width) / 2 + right), int((height - shown_height) / 2 + down)
    return Crop(left, top, width - int(shown_width) - left, height - int(shown_height) - top)


def _boxes(file: IO[bytes], start: int, end: int, kind: bytes | None = None) -> Iterator[_Element]:
    for _ in range(_MAX_ELEMENTS):
        if start + 8 > end:
            return
        header = _bytes(file, start, 16)
        size, begin = int.from_bytes(header[:4]), start + 8
        if size == 1:
            size, begin = int.from_bytes(header[8:16]), start + 16
        elif size == 0:
            size = end - start
        if size < begin - start:
            return
        if kind in (None, header[4:8]):
            yield _Element(int.from_bytes(header[4:8]), begin, min(start + size, end))
        start += size


def _of_matroska(file: IO[bytes], size: int) -> Crop | None:
    for segment in _elements(file, 0, size, _SEGMENT):
        for tracks in _elements(file, segment.start, segment.end, _TRACKS):
            for track in _elements(file, tracks.start, tracks.end, _TRACK):
                found = {element.kind: element for element in _elements(file, track.start, track.end)}
                if _TYPE in found and _number(file, found[_TYPE]) == 1 and _VIDEO in found:
                    video = found[_VIDEO]
                    sides = {element.kind: element for element in _elements(file, video.start, video.end)}
                    return Crop(*(_number(file, sides[side]) if side in sides else 0 for side in _CROPS))
    return None


def _elements(file: IO[bytes], start: int, end: int, kind: int | None = None) -> Iterator[_Element]:
    for _ in range(_MAX_ELEMENTS):
        if start + 2 > end:
            return
        header = _bytes(file, start, 12)
        id_bytes = 9 - header[0].bit_length()
        if id_bytes > 4 or id_bytes >= len(header):
            return
        size_bytes = 9 - header[id_bytes].bit_length()
        if size_bytes > 8:
            return
        found = int.from_bytes(header[:id_bytes])
        begin = start + id_bytes + size_bytes
        size = int.from_bytes(header[id_bytes : id_bytes + size_bytes]) - (1 << 7 * size_bytes)
        if size == (1 << 7 * size_bytes) - 1:  # unknown: up to the end of what it lies in
            size = end - begin
        if kind in (None, found):
            yield _Element(found, begin, min(begin + size, end))
        if found == _CLUSTER:  # pictures from here on
            return
        start = begin + size


def _number(file: IO[bytes], element: _Element) -> int:
    return int.from_bytes(_bytes(file, element.start, min(element.end - element.start, 8)))


def _numbers(data: bytes, size: int, *, is_signed: bool = False) -> list[int]:
    return [int.from_bytes(data[i : i + size], signed=is_signed) for i in range(0, len(data), size)]


def _bytes(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
