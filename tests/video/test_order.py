"""Pictures that count: frames come in the order in which they were shot, whatever times a container stores."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fcvideo.errors import VideoError
from fcvideo.faces.crop import Framing
from fcvideo.survey.reading import FaceReader, Looking, VideoPlan
from fcvideo.video.inputs import Source
from fcvideo.video.picture import orientation
from fcvideo.video.probe import probe
from fcvideo.video.read import Frame, read_frames
from fcvideo.video.segments import plan_segments
from tests.conftest import frame_number, numbered_picture, write_video

NUM_FRAMES = 60


def write_counting(path: Path, codec: str, b_frames: int = 2, num_frames: int = NUM_FRAMES) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 12, b_frames
        if codec == "h264":
            stream.codec_context.options = {"preset": "veryfast", "bf": str(b_frames)}
        else:
            stream.codec_context.bit_rate = 2_000_000
        for number in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_picture(number, (96, 80)), "rgb24")))
        container.mux(stream.encode(None))
    return path


def frames_of(path: Path, segment_seconds: float = 30.0) -> list[Frame]:
    segments = plan_segments(Source(str(path), path.name), segment_seconds)
    return [frame for segment in segments for frame in read_frames(segment)]


def numbers_of(frames: list[Frame]) -> list[int]:
    return [frame_number(frame.image) for frame in frames if frame.image is not None]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *[("a.avi", "h264"), ("a.avi", "mpeg4"), ("a.avi", "mpeg2video")],
        *[("a.asf", "h264"), ("a.wmv", "mpeg2video"), ("a.asf", "mpeg1video"), ("a.asf", "mpeg4")],
        *[("a.mxf", "mpeg2video"), ("a.mkv", "h264"), ("a.mp4", "h264"), ("a.ts", "mpeg2video")],
    ],
)
def test_frames_come_in_order_and_evenly(tmp_path: Path, name: str, codec: str) -> None:
    frames = frames_of(write_counting(tmp_path / name, codec), segment_seconds=1.0)
    assert numbers_of(frames) == list(range(NUM_FRAMES))
    assert [frame.frame_index for frame in frames] == list(range(NUM_FRAMES))
    np.testing.assert_allclose(np.diff([frame.pts_seconds for frame in frames]), 0.04, atol=1e-6)
    assert not any(frame.is_damaged or frame.is_time_repaired for frame in frames)


def test_packed_b_frames_are_no_frame_late(tmp_path: Path) -> None:
    """As DivX wrote them: a B-frame in the packet of the picture that it refers to, then an empty one in its place."""
    plain, packed = write_counting(tmp_path / "plain.avi", "mpeg4", b_frames=1), tmp_path / "packed.avi"
    with av.open(str(plain)) as source:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        header = source.streams.video[0].codec_context.extradata + b"\x00\x00\x01\xb2DivX503b1393p"  # p: packed
    kinds = [packet[packet.index(b"\x00\x00\x01\xb6") + 4] >> 6 for packet in packets]  # 0: I, 1: P, 2: B
    chunks = []
    for position, (packet, kind) in enumerate(zip(packets, kinds, strict=True)):
        if kind == 2:
            chunks.append(NOT_CODED)
        else:
            follows = position + 1 < len(packets) and kinds[position + 1] == 2
            chunks.append(packet + (packets[position + 1] if follows else b""))
    chunks[0] = header + chunks[0]
    assert kinds.count(2) > 20
    with av.open(str(packed), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        stream.codec_context.extradata = header
        container.start_encoding()
        for number, chunk in enumerate(chunks):
            out = av.Packet(chunk)
            out.stream, out.pts, out.dts, out.time_base = stream, number, number, Fraction(1, 25)
            out.is_keyframe = number % 12 == 0
            container.mux(out)
    frames = frames_of(packed)
    assert numbers_of(frames) == list(range(len(frames)))
    assert len(frames) >= NUM_FRAMES - 2
    np.testing.assert_allclose(np.diff([frame.pts_seconds for frame in frames]), 0.04, atol=1e-6)


NOT_CODED = b"\x00\x00\x01\xb6\x50\x00\x7f"  # a P-frame that says that nothing is new


def test_a_damaged_key_frame_costs_its_own_segment_alone(tmp_path: Path) -> None:
    """Reading comes from the key frame before it, not from the beginning of the file."""
    path = write_video(tmp_path / "v.mp4", num_frames=120, gop=12)
    with av.open(str(path)) as container:
        keys = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.is_keyframe]
    data = bytearray(path.read_bytes())
    at, size = keys[6]
    slice_at = data.index(b"\x65", at + 4) + 1  # behind the byte that says that it is a key frame's
    data[slice_at : at + size] = b"\xff" * (at + size - slice_at)
    path.write_bytes(data)
    whole = frames_of(path)
    parts = frames_of(path, segment_seconds=0.4)
    segments = plan_segments(Source(str(path), "v.mp4"), 0.4)
    (segment,) = [one for one in segments if one.first_frame_index == 72]
    for name in ("frame_index", "pts", "is_damaged"):
        assert [getattr(frame, name) for frame in parts] == [getattr(frame, name) for frame in whole]
    for part, one in zip(parts, whole, strict=True):
        assert (part.image is None) == (one.image is None)
        assert part.image is None or np.array_equal(part.image, one.image)
    with path.open("r+b") as file:  # nothing before the key frame that reading comes from is needed
        for at, size in keys[1:4]:
            file.seek(at)
            file.write(b"\xff" * size)
    again = list(read_frames(segment))
    assert [(f.frame_index, f.image is None) for f in again] == [(f.frame_index, f.image is None) for f in parts[72:84]]


def plan(path: Path) -> VideoPlan:
    looking = Looking(None, None, None, 40, 0.7, 64, Framing())
    return FaceReader(looking).plan(Source(str(path), path.name))


def test_frames_that_an_avi_leaves_out_in_its_middle_are_no_missing_end(tmp_path: Path) -> None:
    path = tmp_path / "null.avi"
    source = write_counting(tmp_path / "full.avi", "h264", b_frames=0)
    with av.open(str(source)) as full, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(full.streams.video[0])
        for number, packet in enumerate(full.demux(video=0)):
            if packet.dts is None or (number % 12 and number % 3 == 0):
                continue
            packet.stream = stream
            container.mux(packet)
    found = plan(path)
    assert found.info is not None
    assert found.segments[0].num_packets is not None
    assert found.info.num_frames_from_header is not None
    assert found.segments[0].num_packets < found.info.num_frames_from_header
    assert (found.status, found.error) == ("ok", None)


def test_the_stream_that_is_default_is_read_and_others_are_named(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        small, large = (container.add_stream("h264", rate=25) for _ in range(2))
        for stream, (width, height) in ((small, (64, 48)), (large, (128, 96))):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        small.disposition = large.disposition = 0
        for number in range(10):
            for stream in (small, large):
                picture = numbered_picture(number, (stream.width, stream.height))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        for stream in (small, large):
            container.mux(stream.encode(None))
    found = plan(path)
    assert found.info is not None
    assert (found.info.width, found.status) == (128, "ok")
    assert found.error == "of its 2 video streams number 1 is read, not number 0 (64 x 48)"


def test_a_program_table_that_changes_in_mid_file_is_told(tmp_path: Path) -> None:
    halves = []
    for number in range(2):
        half = tmp_path / f"{number}.ts"
        with av.open(str(half), "w", options={"mpegts_start_pid": str(256 * (number + 1))}) as container:
            stream = container.add_stream("h264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            rng = np.random.default_rng(number)
            for _ in range(50):
                noise = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
            container.mux(stream.encode(None))
        halves.append(half.read_bytes())
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(halves))
    found = plan(path)
    assert found.status == "damaged"
    assert found.error is not None
    assert "number 0 is read, not number 1" in found.error
    assert found.error.endswith("% of the file")


def test_an_encrypted_file_is_called_so(tmp_path: Path) -> None:
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": os.urandom(16).hex(),
        "encryption_kid": os.urandom(16).hex(),
    }
    path = tmp_path / "secret.mp4"
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for number in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_picture(number, (96, 80)), "rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"secret\.mp4: found an encrypted video") as caught:
        probe(Source(str(path), "secret.mp4"))
    assert caught.value.status == "refused"


def test_side_data_without_a_name_ends_nothing(tmp_path: Path) -> None:
    """EXIF in Motion-JPEG; its display rotation is still read."""
    still = tmp_path / "still.jpg"
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F] = "camera"
    Image.fromarray(numbered_picture(5, (96, 80))).save(still, "JPEG", exif=exif, quality=95)
    path = tmp_path / "exif.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuvj420p"
        stream.set_display_rotation(90)
        container.start_encoding()
        for number in range(3):
            packet = av.Packet(still.read_bytes())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = True
            container.mux(packet)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        with pytest.raises(ValueError, match="not a valid"):
            _ = frame.side_data
        assert orientation(frame).rotation_deg == 90
    frames = frames_of(path)
    assert [frame.image.shape for frame in frames if frame.image is not None] == [(96, 80, 3)] * 3
