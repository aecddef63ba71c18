"""The mark that says that a picture is synthetic: its text, its places in files and in coded streams, and reading it.

A container's tags are lost when a file is remuxed; the mark within the coded pictures stays as long as they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from uuid import UUID

from PIL import Image

from fcvideo.errors import VideoError
from fcvideo.video.container import demux, open_video
from fcvideo.video.inputs import Source

_PREFIX = "Synthetic picture: made by fcvideo "
_ID = UUID("7b5c1ad3-6e0f-4d8b-9a53-c41f8e27b96d").bytes  # ours; without zero bytes, so nothing to escape
_XMP_BOX_ID = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes  # XMP specification, part 3
_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_NUM_KEYS_READ = 4  # key frames of a video that are looked at: each has the mark
_EXIF_DESCRIPTION = 0x010E

# NAL unit headers of supplemental information: H.264 type 6; HEVC type 39, before the picture, layer 0
_SEI_HEADERS = {"h264": b"\x06", "hevc": b"\x4e\x01"}
_SEI_USER_DATA = b"\x05"  # unregistered: a UUID says whose
_STOP = b"\x80"  # the bit that ends a unit's content
# AV1's open bitstream units: metadata with a size, of the first type for private use; dav1d says that it does not know
# it, and goes on
_AV1_DECODERS = ("av1", "libdav1d")
_OBU_METADATA, _OBU_USER_PRIVATE = b"\x2a", b"\x06"
_OBU_HEADS = (1, 2)  # sequence header, temporal delimiter
_OBU_HAS_SIZE = 2


@dataclass(frozen=True)
class Mark:
    """What made a picture. `is_composite`: only part of it is synthetic, the rest is of the source."""

    command: str
    model: str
    model_hash: str
    version: str
    is_composite: bool = False

    def text(self) -> str:
        """One line for people."""
        by = f"{_PREFIX}{self.version} {self.command} with model {self.model} (sha256 {self.model_hash})"
        return " ".join(
            "".join(character for character in by if character.isprintable() or character.isspace()).split()
        )

    def xmp(self) -> bytes:
        """An XMP packet with the description and IPTC's digital source type."""
        term = "compositeWithTrainedAlgorithmicMedia" if self.is_composite else "trainedAlgorithmicMedia"
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
            ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
            f' xmp:CreatorTool="fcvideo {escape(self.version)}" Iptc4xmpExt:DigitalSourceType="{_TERMS}{term}">'
            f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(self.text())}</rdf:li></rdf:Alt>'
            '</dc:description></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
        ).encode()

    def xmp_box(self) -> bytes:
        """The packet as an mp4 box of the file's top level."""
        content = _XMP_BOX_ID + self.xmp()
        return (8 + len(content)).to_bytes(4, "big") + b"uuid" + content

    def exif(self) -> Image.Exif:
        exif = Image.Exif()
        exif[_EXIF_DESCRIPTION] = self.text()
        return exif

    def within(self, codec: str, key_frame: bytes) -> bytes:
        """A key frame's data, as mp4 stores it, with the mark inside; unchanged for a codec that is not known here."""
        payload = _ID + self.text().encode() + b"\0"
        if codec in _SEI_HEADERS:
            size = b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255])
            unit = _SEI_HEADERS[codec] + _SEI_USER_DATA + size + payload + _STOP
            return len(unit).to_bytes(4, "big") + unit + key_frame
        if codec in _AV1_DECODERS:
            at = _sequence_header_end(key_frame)
            content = _OBU_USER_PRIVATE + payload + _STOP
            return key_frame[:at] + _OBU_METADATA + _leb128(len(content)) + content + key_frame[at:]
        return key_frame


def _sequence_header_end(data: bytes) -> int:
    """Where AV1's metadata may stand: after the sequence header and what precedes it."""
    at = 0
    while at < len(data) and data[at] >> 3 & 15 in _OBU_HEADS and data[at] & _OBU_HAS_SIZE:
        size, shift, after = 0, 0, at + 1
        while data[after] & 128:
            size, shift, after = size | (data[after] & 127) << shift, shift + 7, after + 1
        at = after + 1 + (size | data[after] << shift)
    return at


def _leb128(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _leb128(rest) if rest else bytes([low])


def read_mark(path: Path) -> str | None:
    """The mark's text of a video or picture file, from its tags or its coded pictures. Errors: VideoError."""
    source = Source(str(path), path.name)
    return _read_picture_mark(path) if source.is_image else _read_video_mark(source)


def _read_picture_mark(path: Path) -> str | None:
    try:
        with Image.open(path) as picture:
            texts = [picture.getexif().get(_EXIF_DESCRIPTION), *picture.info.values()]
    except (OSError, ValueError, SyntaxError) as error:
        raise VideoError("not_media", f"{path}: found no picture, expected an image file") from error
    return next((text for text in texts if isinstance(text, str) and text.startswith(_PREFIX)), None)


def _read_video_mark(source: Source) -> str | None:
    with open_video(source) as (container, stream):
        for tags in (container.metadata, stream.metadata):
            for text in tags.values():
                if text.startswith(_PREFIX):
                    return text
        num_keys = 0
        for packet in demux(source, container, stream):
            if packet is None or not packet.is_keyframe:
                continue
            found = _find_unit(bytes(packet))
            num_keys += 1
            if found is not None or num_keys == _NUM_KEYS_READ:
                return found
    return None


def _find_unit(data: bytes) -> str | None:
    start = data.find(_ID)
    if start < 0:
        return None
    text = data[start + len(_ID) :].partition(b"\0")[0]
    return text.decode("utf-8", "replace")
