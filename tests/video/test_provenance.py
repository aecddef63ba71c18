"""The mark is found in what was written, and after a copy into another container."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest

from fcvideo.errors import VideoError
from fcvideo.video.inputs import Source
from fcvideo.video.provenance import Mark, read_mark
from fcvideo.video.still import write_still
from fcvideo.video.write import Coding
from tests.conftest import write_video
from tests.video.rendering import MARK, boxes, packets, read, render

TEXT = f"Synthetic picture: made by fcvideo 0.1.0 reenact with model facecycle-64-small (sha256 {'ab12' * 16})"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("made") / "made.mp4", num_frames=100)


def copy(path: Path, out: Path) -> Path:
    """The video's packets in another container, without any tag."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return out


def test_the_text_is_one_line() -> None:
    assert MARK.text() == TEXT
    odd = replace(MARK, model="a\nb\0\x01 <c> & \"d\" 'é'")
    assert "with model a b <c> & \"d\" 'é' (sha256" in odd.text()
    described = ElementTree.fromstring(odd.xmp().decode().removeprefix("\ufeff"))
    assert odd.text() in "".join(described.itertext())


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_the_file_says_so(tmp_path: Path, made: Path, codec: str) -> None:
    render(made, tmp_path / "out.mp4", coding=Coding(codec, 40))
    assert read_mark(tmp_path / "out.mp4") == TEXT
    assert boxes(tmp_path / "out.mp4")[-1] == "uuid"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["comment"] == TEXT
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in (tmp_path / "out.mp4").read_bytes()


@pytest.mark.parametrize(
    ("coding", "suffix"),
    [
        *[
            (Coding(codec, 40, is_lossless), suffix)
            for codec in ("h264", "hevc")
            for is_lossless in (False, True)
            for suffix in (".mkv", ".ts", ".mp4")
        ],
        *[(Coding("av1", 40), suffix) for suffix in (".mkv", ".webm", ".mp4", ".ivf")],
    ],
    ids=str,
)
def test_the_mark_survives_a_copy(tmp_path: Path, made: Path, coding: Coding, suffix: str) -> None:
    render(made, tmp_path / "out.mp4", coding=coding)
    again = copy(tmp_path / "out.mp4", tmp_path / f"again{suffix}")
    assert read_mark(again) == TEXT
    assert len(read(again)[0]) == 100


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_every_key_frame_carries_the_mark(tmp_path: Path, made: Path, codec: str) -> None:
    render(made, tmp_path / "out.mp4", num_parts=3, coding=Coding(codec, 40))
    keys = [packet for packet in packets(tmp_path / "out.mp4", 0) if packet.is_keyframe]
    assert len(keys) == 4  # three segments, and 3 s
    assert all(TEXT.encode() in bytes(packet) for packet in keys)


def test_long_names_of_any_script_are_kept(tmp_path: Path, made: Path) -> None:
    mark = Mark("reenact", "模型é" * 150, "00" * 32, "0.1.0")  # over 255 bytes: the size takes several
    for codec, suffix in (("h264", ".ts"), ("hevc", ".ts"), ("av1", ".mkv")):
        render(made, tmp_path / "out.mp4", num_parts=1, coding=Coding(codec, 40), mark=mark)
        again = copy(tmp_path / "out.mp4", tmp_path / f"again{suffix}")
        assert read_mark(again) == mark.text()
        assert len(read(again)[0]) == 100


def test_ffmpeg_reads_the_stream_without_a_word(tmp_path: Path, made: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")
    for codec in ("h264", "hevc"):
        render(made, tmp_path / "out.mp4", coding=Coding(codec, 40))
        command = [program, "-v", "warning", "-i", str(tmp_path / "out.mp4"), "-f", "null", "-"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("is_composite", [False, True])
def test_stills_say_so(tmp_path: Path, suffix: str, is_composite: bool) -> None:
    path = tmp_path / f"a{suffix}"
    write_still(path, np.zeros((8, 8, 3), np.uint8), replace(MARK, is_composite=is_composite))
    assert read_mark(path) == TEXT
    term = b"compositeWithTrainedAlgorithmicMedia" if is_composite else b"trainedAlgorithmicMedia"
    assert b"digitalsourcetype/" + term in path.read_bytes()


def test_other_files_have_no_mark(tmp_path: Path, made: Path) -> None:
    from PIL import Image

    assert read_mark(made) is None
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert read_mark(tmp_path / "a.png") is None
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(VideoError, match=r"b\.png: found no picture"):
        read_mark(tmp_path / "b.png")
    assert Source("https://host/a.JPG?size=2", "a").is_image
