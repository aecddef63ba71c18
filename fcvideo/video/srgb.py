"""A picture that Pillow has opened, as 8-bit sRGB: colour models, profiles, transparency, 16 bits."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from fcvideo.errors import VideoError
from fcvideo.video.inputs import Source

# What Pillow raises on damaged files, and the libraries of HEIF and AVIF below it.
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, MemoryError, TypeError, KeyError, IndexError, RuntimeError)
_MAX_PIXELS = 100_000_000  # 300 MB of RGB
_BACKGROUND = "white"


def check_size(source: Source, picture: Image.Image) -> None:
    """Errors: VideoError."""
    if picture.width * picture.height > _MAX_PIXELS:
        raise too_large(source, f"{picture.width} x {picture.height} pixels")


def too_large(source: Source, found: str) -> VideoError:
    return VideoError("error", f"{source.path}: found {found}, expected at most {_MAX_PIXELS:,} pixels")


def to_rgb(source: Source, picture: Image.Image) -> Image.Image:
    """8 bits, in sRGB, transparent parts over white. Errors: VideoError."""
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
