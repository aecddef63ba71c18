"""Pictures of every kind come in as upright RGB; what goes out is whole."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from fcvideo.errors import InputError, OutputError, VideoError
from fcvideo.video.inputs import resolve_inputs
from fcvideo.video.still import read_still, write_still
from tests.video.rendering import MARK

ORIENTATION = 0x0112


@pytest.fixture
def picture() -> Image.Image:
    """A red and a blue half, one above the other."""
    image = Image.new("RGB", (20, 10), (200, 30, 30))
    image.paste((30, 30, 200), (0, 5, 20, 10))
    return image


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".ppm", ".jp2"])
def test_every_kind_is_read(tmp_path: Path, picture: Image.Image, suffix: str) -> None:
    picture.save(tmp_path / f"a{suffix}")
    image = read_still(tmp_path / f"a{suffix}")
    assert (image.shape, image.dtype) == ((10, 20, 3), np.uint8)
    assert np.abs(image[1].astype(int) - (200, 30, 30)).mean() < 12
    assert image.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(tmp_path: Path, picture: Image.Image, orientation: int) -> None:
    stored = {
        **{1: picture, 2: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)},
        **{3: picture.rotate(180), 4: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)},
        **{5: picture.transpose(Image.Transpose.TRANSPOSE), 6: picture.rotate(90, expand=True)},
        **{7: picture.transpose(Image.Transpose.TRANSVERSE), 8: picture.rotate(270, expand=True)},
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_still(tmp_path / "a.png"), np.asarray(picture))


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (200, 30, 30, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    for name, converted in (("a.png", image), ("b.png", image.quantize()), ("c.webp", image)):
        converted.save(tmp_path / name, **({"lossless": True} if name == "c.webp" else {}))
        assert np.abs(read_still(tmp_path / name)[0].astype(int) - [(200, 30, 30), (255, 255, 255)]).max() <= 1


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    wide = np.array([[0, 257, 32_768, 65_535]], np.uint16)
    for suffix in (".png", ".tif"):
        Image.fromarray(wide).save(tmp_path / f"a{suffix}")
        assert read_still(tmp_path / f"a{suffix}")[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "P", "LA", "YCbCr", "LAB"])
def test_other_color_models_become_rgb(tmp_path: Path, picture: Image.Image, mode: str) -> None:
    converted = picture.convert("RGB").quantize() if mode == "P" else picture
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    elif mode != "P":
        converted = picture.convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "LAB") else "a.png")
    converted.save(path)
    image = read_still(path)
    assert image.shape == (10, 20, 3)
    if mode in ("CMYK", "P", "YCbCr"):
        assert np.abs(image.astype(int) - np.asarray(picture)).max() <= 3


def test_a_color_profile_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (100, 150, 200))
    lab = ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    assert converted is not None
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "a.png", icc_profile=srgb)
    assert np.abs(read_still(tmp_path / "a.png").astype(int) - (100, 150, 200)).max() <= 1
    image.save(tmp_path / "b.png", icc_profile=b"no profile")
    assert np.array_equal(read_still(tmp_path / "b.png")[0, 0], (100, 150, 200))


def test_an_animation_gives_its_first_picture(tmp_path: Path, picture: Image.Image) -> None:
    picture.save(tmp_path / "a.webp", save_all=True, append_images=[Image.new("RGB", (20, 10))], lossless=True)
    assert np.array_equal(read_still(tmp_path / "a.webp"), np.asarray(picture))


def test_what_is_no_picture_is_one_line(tmp_path: Path, picture: Image.Image) -> None:
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(VideoError, match=r"a\.png: found no known kind of picture, expected") as caught:
        read_still(tmp_path / "a.png")
    assert caught.value.status == "not_media"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:6000])
    with pytest.raises(VideoError, match=r"b\.png: found a damaged picture"):
        read_still(tmp_path / "b.png")
    with pytest.raises(VideoError, match=r"c\.png: cannot be opened"):
        read_still(tmp_path / "c.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "d.tif")
    with pytest.raises(VideoError, match="floating point"):
        read_still(tmp_path / "d.tif")


@pytest.mark.parametrize("side", [10_001, 14_000])
def test_a_bomb_is_not_unpacked(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(VideoError, match="expected at most 100,000,000 pixels"):
            read_still(tmp_path / "a.png")


@pytest.mark.parametrize(("suffix", "error"), [(".png", 0), (".jpg", 3), (".JPEG", 3), (".webp", 8)])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, error: int) -> None:
    image = np.asarray(Image.linear_gradient("L").resize((64, 40)).convert("RGB")).copy()
    image[..., 2] = 90
    write_still(tmp_path / f"a{suffix}", image, MARK)
    assert np.abs(read_still(tmp_path / f"a{suffix}").astype(int) - image).max() <= error
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(OutputError, match=r"a\.gif: found \.gif, expected one of \.png, \.jpg"):
        write_still(tmp_path / "a.gif", image, MARK)
    with pytest.raises(OutputError, match=r"a\.png: cannot be written"):
        write_still(tmp_path / "no" / "a.png", image, MARK)
    with pytest.raises(OutputError, match=r"a\.webp: a picture of 20000 x 4 cannot be written as WEBP"):
        write_still(tmp_path / "a.webp", np.zeros((4, 20_000, 3), np.uint8), MARK)
    assert list(tmp_path.iterdir()) == []


def test_large_texts_in_a_picture_do_not_matter(tmp_path: Path, picture: Image.Image) -> None:
    info = PngInfo()
    info.add_text("Comment", "x" * 10_000, zip=True)
    picture.save(tmp_path / "a.png", pnginfo=info)
    assert np.array_equal(read_still(tmp_path / "a.png"), np.asarray(picture))


def test_a_folder_gives_pictures_where_they_are_wanted(tmp_path: Path, picture: Image.Image) -> None:
    picture.save(tmp_path / "b.JPG")
    with pytest.raises(InputError, match="no file with a video's suffix"):
        resolve_inputs([str(tmp_path)])
    (tmp_path / "a.mp4").write_bytes(b"")
    assert [source.name for source in resolve_inputs([str(tmp_path)])] == ["a.mp4"]
    found = resolve_inputs([str(tmp_path)], images=True)
    assert [(source.name, source.is_image) for source in found] == [("a.mp4", False), ("b.JPG", True)]
    (tmp_path / "a.mp4").unlink()
    (tmp_path / "b.JPG").unlink()
    with pytest.raises(InputError, match="video's or picture's suffix"):
        resolve_inputs([str(tmp_path)], images=True)
