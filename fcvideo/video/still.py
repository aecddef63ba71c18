"""Reads and writes single pictures: upright 8-bit sRGB in, marked PNG, JPEG or WebP out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pi_heif
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from fcvideo.atomic import written_atomically
from fcvideo.errors import OutputError, VideoError
from fcvideo.video.container import open_file
from fcvideo.video.inputs import Source
from fcvideo.video.kind import IMAGE_SUFFIXES
from fcvideo.video.provenance import Mark
from fcvideo.video.srgb import DAMAGED, check_size, to_rgb, too_large
from fcvideo.video.tone import WideColors, picture_filter, tagged_colors

# Decoders of pictures alone. Left out on purpose: EPS and others that start programs or read other files.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "GIF", "AVIF", "HEIF")
pi_heif.register_heif_opener()
_WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_QUALITY = 95
_TAGS_WITHIN = 1 << 16  # bytes from the beginning, where the properties of a picture stand


def read_still(path: Path | str) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB, upright: orientation and color profile applied, transparent parts over white.

    16 bits become 8; of an animation the first picture; `path` may be a URL. Errors: VideoError.
    """
    return decode_still(path).image


class Still(NamedTuple):
    image: npt.NDArray[np.uint8]  # as of `read_still`
    format: str  # jpeg, png, heif ..


def decode_still(path: Path | str) -> Still:
    """Errors: VideoError."""
    source = Source(str(path), str(path))
    with open_file(source) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we have a limit of our own
                with Image.open(file, formats=_FORMATS) as picture:
                    check_size(source, picture)
                    found = (picture.format or "").lower()
                    rgb = to_rgb(source, ImageOps.exif_transpose(picture))
                    if (colors := _wide_colors(picture, file)) is not None:
                        rgb = rgb.filter(picture_filter(colors))
        except Image.UnidentifiedImageError as error:
            expected = f"expected a picture ({', '.join(sorted(IMAGE_SUFFIXES))})"
            raise VideoError("not_media", f"{path}: found no known kind of picture, {expected}") from error
        except Image.DecompressionBombError as error:
            raise too_large(source, str(error)) from error
        except DAMAGED as error:
            reason = " ".join(str(error).split())
            raise VideoError("error", f"{path}: found a damaged picture ({reason}), expected a whole one") from error
    return Still(np.array(rgb, dtype=np.uint8), found)


def _wide_colors(picture: Image.Image, file: IO[bytes]) -> WideColors | None:
    """From the first color tags of an AVIF or HEIF picture without a profile; Pillow leaves them out."""
    if picture.format not in ("AVIF", "HEIF") or picture.info.get("icc_profile"):
        return None
    file.seek(0)
    _, _, tags = file.read(_TAGS_WITHIN).partition(b"colrnclx")
    return tagged_colors(int.from_bytes(tags[:2]), int.from_bytes(tags[2:4])) if len(tags) >= 4 else None


def write_still(path: Path, image: npt.NDArray[np.uint8], mark: Mark) -> None:
    """`image` (height, width, 3) uint8 RGB, by suffix as PNG, JPEG or WebP, with the mark; whole or not at all.

    Errors: OutputError.
    """
    kind = _WRITTEN.get(path.suffix.lower())
    if kind is None:
        found = path.suffix or "no suffix"
        raise OutputError(f"{path}: found {found}, expected one of {', '.join(_WRITTEN)}")
    options: dict[str, Any] = {"xmp": mark.xmp(), "exif": mark.exif(), "quality": _QUALITY}
    if kind == "JPEG":
        options |= {"subsampling": 0, "comment": mark.text()}
    elif kind == "PNG":
        info = PngInfo()
        info.add_itxt("Description", mark.text())
        info.add_itxt("XML:com.adobe.xmp", mark.xmp().decode())
        options = {"pnginfo": info, "exif": mark.exif()}
    with written_atomically(path) as unfinished:
        try:
            Image.fromarray(image).save(unfinished, kind, **options)
        except ValueError as error:  # a side beyond what the format can say
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise OutputError(f"{path}: a picture of {size} cannot be written as {kind} ({error})") from error
