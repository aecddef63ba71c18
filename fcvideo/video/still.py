"""Reads and writes single pictures: upright 8-bit sRGB in, marked PNG, JPEG or WebP out."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from fcvideo.atomic import written_atomically
from fcvideo.errors import OutputError, VideoError
from fcvideo.video.container import open_file
from fcvideo.video.inputs import IMAGE_SUFFIXES, Source
from fcvideo.video.provenance import Mark

# Decoders of pictures alone. Left out on purpose: EPS and others that start programs or read other files.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "GIF")
_MAX_PIXELS = 100_000_000  # 300 MB of RGB
_BACKGROUND = "white"
_WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_QUALITY = 95


def read_still(path: Path | str) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB, upright: orientation and color profile applied, transparent parts over white.

    16 bits become 8; of an animation the first picture; `path` may be a URL. Errors: VideoError.
    """
    source = Source(str(path), str(path))
    with open_file(source) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we have a limit of our own
                with Image.open(file, formats=_FORMATS) as picture:
                    _check_size(source, picture)
                    rgb = _to_rgb(source, ImageOps.exif_transpose(picture))
        except Image.UnidentifiedImageError as error:
            expected = f"expected a picture ({', '.join(sorted(IMAGE_SUFFIXES))})"
            raise VideoError("not_media", f"{path}: found no known kind of picture, {expected}") from error
        except Image.DecompressionBombError as error:
            raise _too_large(source, str(error)) from error
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError, TypeError, KeyError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise VideoError("error", f"{path}: found a damaged picture ({reason}), expected a whole one") from error
    return np.array(rgb, dtype=np.uint8)


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


def _check_size(source: Source, picture: Image.Image) -> None:
    if picture.width * picture.height > _MAX_PIXELS:
        raise _too_large(source, f"{picture.width} x {picture.height} pixels")


def _too_large(source: Source, found: str) -> VideoError:
    return VideoError("error", f"{source.path}: found {found}, expected at most {_MAX_PIXELS:,} pixels")


def _to_rgb(source: Source, picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I"):  # 16 bits of grey, in Pillow's several ways
        wide = np.asarray(picture).astype(np.float64)
        if picture.mode == "I" and wide.max(initial=0) > 65535:
            raise VideoError("error", f"{source.path}: found 32 bits a pixel, expected 8 or 16")
        return Image.fromarray(np.round(wide / 257).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise VideoError("error", f"{source.path}: found floating point pixels, expected 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        opaque = _with_profile(picture.convert("RGB"), profile)
        return Image.composite(opaque, Image.new("RGB", picture.size, _BACKGROUND), alpha)
    if picture.mode not in ("RGB", "L", "CMYK"):
        picture = picture.convert("RGB")
    return _with_profile(picture, profile)


def _with_profile(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """From the picture's own colors to sRGB; as they are if it names none, or one that does not fit."""
    if profile:
        try:
            found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, found, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is not None:
            return converted
    return picture.convert("RGB")
