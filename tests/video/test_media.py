"""Every file of the shared material against a plain PyAV loop, and the status expected of each hostile one."""

from __future__ import annotations

from pathlib import Path

import av
import av.error
import numpy as np
import pytest

from fcvideo.errors import VideoError
from fcvideo.video.inputs import Source
from fcvideo.video.probe import probe
from fcvideo.video.read import Frame, read_frames
from fcvideo.video.segments import plan_segments

SOUND = {  # frames in the file
    "cap13_edit2.mp4": 765,
    "carphone.mp4": 120,
    "dc_video_90.mov": 3,
    "facenet_street.mp4": 105,
    "hamilton.mp4": 275,
    "in_student.mkv": 52,
    "lp_d0.mp4": 78,
    "lp_d12.mp4": 183,
    "lp_s29.mp4": 160,
    "pyfeat_single_face.mp4": 72,
    "tc_bt2020_10bit.mp4": 60,
    "tc_nonzero.mp4": 12,
    "hostile/fragmented.mp4": 120,
    "hostile/huge_8192x4320.mp4": 3,
    "hostile/odd_321x241_vp9.webm": 90,
    "hostile/one_frame.mp4": 1,
    "hostile/reschange.ts": 240,
    "hostile/rot90.mp4": 282,
    "hostile/vfr_h264.mp4": 129,
}
DAMAGED = {  # frames that can be decoded, frames that are lost
    "hostile/corrupt_mid_block.mp4": (151, 29),
    "hostile/trunc_faststart.mp4": (97, 1),
}
UNREADABLE = {  # status, a word of the message
    "hostile/audio_only.mp4": ("no_video", "audio"),
    "hostile/text.mp4": ("not_media", "container"),
    "hostile/trunc_moov_lost.mp4": ("error", "index"),
    "hostile/zero_bytes.mp4": ("not_media", "empty"),
}
TURNED = {"dc_video_90.mov": 270, "hostile/rot90.mp4": 90}


def read_all(path: Path, segment_seconds: float = 30.0, **options: float) -> list[Frame]:
    segments = plan_segments(Source(str(path), path.name), segment_seconds)
    return [frame for segment in segments for frame in read_frames(segment, **options)]


def plain_times(path: Path) -> list[float]:
    """Times of all frames that PyAV gives when the errors of single packets are passed over."""
    times = []
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            try:
                times += [float(frame.pts * frame.time_base) for frame in packet.decode()]
            except av.error.InvalidDataError:
                continue
    return times


@pytest.mark.parametrize("name", [*SOUND, *DAMAGED])
def test_times_and_counts_are_those_of_a_plain_read(media: Path, name: str) -> None:
    times, expected, indices, num_lost = [], plain_times(media / name), [], 0
    for segment in plan_segments(Source(str(media / name), name), 2.0):
        for frame in read_frames(segment):
            indices.append(frame.frame_index)
            num_lost += frame.image is None
            if frame.image is not None:
                times.append(frame.pts_seconds)
                assert frame.image.flags.c_contiguous
    if name in DAMAGED:
        expected.sort()  # the decoder puts one frame out late; ours are in display order
        assert (len(times), num_lost) == DAMAGED[name]
    else:
        assert (len(times), num_lost) == (SOUND[name], 0)
    np.testing.assert_allclose(times, expected, rtol=0, atol=1e-6)
    assert indices == list(range(len(indices)))


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_file_has_its_status(media: Path, name: str) -> None:
    status, word = UNREADABLE[name]
    source = Source(str(media / name), name)
    for step in (probe, plan_segments):
        with pytest.raises(VideoError, match=word) as caught:
            step(source)
        assert caught.value.status == status
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_tables_above_name_every_hostile_file(media: Path) -> None:
    names = {f"hostile/{path.name}" for path in (media / "hostile").iterdir()}
    assert names == {name for name in [*SOUND, *DAMAGED, *UNREADABLE] if name.startswith("hostile/")}


@pytest.mark.parametrize("name", TURNED)
def test_turned_files_are_upright(media: Path, name: str) -> None:
    source = Source(str(media / name), name)
    image = next(read_frames(plan_segments(source)[0])).image
    info = probe(source)
    with av.open(str(media / name)) as container:
        coded = next(container.decode(video=0))
        expected = np.rot90(coded.to_ndarray(format="rgb24"), coded.rotation // 90)
    assert info.rotation_deg == TURNED[name]
    assert image is not None
    assert image.shape == (info.height, info.width, 3) == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 4
