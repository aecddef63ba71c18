"""Whether a file is a video or a picture: by its name, or by the bytes that it begins with."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import IO, Literal

Kind = Literal["video", "image"]
VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mj2", ".f4v", ".mkv", ".webm", ".avi", ".divx", ".ts", ".mts"),
        *(".m2ts", ".mpg", ".mpeg", ".m2v", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".mxf", ".nut", ".ivf", ".rm"),
        *(".rmvb", ".dv", ".gif", ".apng", ".mjpeg", ".mjpg", ".y4m"),
    )
)
IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"),
        *(".heic", ".heif", ".hif", ".avif"),
    )
)
HEAD_BYTES = 64
_RAW_JPEGS = (".mjpeg", ".mjpg")  # pictures one after the other: begin as one picture does
_IMAGE_HEADS = (*(b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),)
_VIDEO_HEADS = (
    *(b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\x01\xba", b"\0\0\x01\xb3"),
    *(b"YUV4MPEG2 ", b"DKIF", b".RMF", b"\x06\x0e+4\x02\x05\x01\x01", b"nut/multimedia container\0", b"GIF8"),
)
_IMAGE_BRANDS = frozenset((b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"miaf"))
_MP4_BOXES = (b"ftyp", b"moov", b"moof", b"mdat", b"wide", b"free", b"skip", b"styp", b"pnot")
_BITMAP_OR_NETPBM = re.compile(rb"BM.{4}\0{4}|P[1-6]\s", re.DOTALL)
_TS_BYTES = 188


def kind_by_name(name: str) -> Kind | None:
    """By the suffix of a path, or of a URL before its query."""
    suffix = PurePosixPath(name.partition("?")[0] if "://" in name else name).suffix.lower()
    return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None


def kind_by_content(file: IO[bytes], name: str) -> Kind | None:
    """None for bytes that say nothing; a picture that moves is a video. Errors: those of the file."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if head.startswith(b"\x89PNG"):
        return "video" if _is_animated_png(file) else "image"
    if head[:4] == b"RIFF":
        if head[8:12] == b"WEBP":
            return "video" if is_animated_webp(head) else "image"
        return "video" if head[8:12] == b"AVI " else None
    if head[4:8] in _MP4_BOXES:
        return "image" if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS else "video"
    if head.startswith(_IMAGE_HEADS) or _BITMAP_OR_NETPBM.match(head):
        return "video" if PurePosixPath(name).suffix.lower() in _RAW_JPEGS or b"ftypmjp2" in head else "image"
    return "video" if head.startswith(_VIDEO_HEADS) or _is_transport_stream(file) else None


def is_animated_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def _is_animated_png(file: IO[bytes]) -> bool:
    """Whether the chunk that announces an animation comes before the first picture."""
    file.seek(8)
    while len(header := file.read(8)) == 8 and header[4:] != b"IDAT":
        if header[4:] == b"acTL":
            return True
        file.seek(int.from_bytes(header[:4]) + 4, os.SEEK_CUR)
    return False


def _is_transport_stream(file: IO[bytes]) -> bool:
    """MPEG-TS, or M2TS with four bytes more before every packet."""
    file.seek(0)
    head = file.read(3 * (_TS_BYTES + 4))
    plain, timed = (head[start :: _TS_BYTES + start][:3] for start in (0, 4))
    return plain == b"GGG" or timed == b"GGG"
