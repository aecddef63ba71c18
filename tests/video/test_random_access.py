"""Both routes give the same frames, and a child that dies or hangs costs the parent nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from fcvideo.video import random_access
from fcvideo.video.random_access import FrameGrabber
from tests.conftest import frame_number

MakeVideo = Callable[..., Path]
TIMES = (3.01, 0.0, 1.234, 1.234, 0.5, 99.0)
NOT_PLAIN = (  # late starts, Matroska, turned, variable rate, transport stream
    *("hamilton.mp4", "tc_nonzero.mp4", "in_student.mkv", "hostile/rot90.mp4", "hostile/vfr_h264.mp4"),
    "hostile/reschange.ts",
)
HAS_DECORD = pytest.mark.skipif(random_access.find_spec("decord") is None, reason="decord has no wheel here")


@HAS_DECORD
@pytest.mark.parametrize("name", ["franck.mp4", "lp_d12.mp4", "cap13_edit2.mp4", "pyfeat_single_face.mp4"])
def test_both_routes_give_the_same_frames(media: Path, name: str) -> None:
    with FrameGrabber(str(media / name)) as grabber:
        assert grabber.route == "decord"
        by_decord = grabber.frames(TIMES)
        grabber.close()
        assert grabber.route == "pyav"
        by_pyav = grabber.frames(TIMES)
    for a, b in zip(by_decord, by_pyav, strict=True):
        assert (a.frame_index, a.pts_seconds) == (b.frame_index, b.pts_seconds)
        assert np.abs(a.image.astype(int) - b.image).mean() < 2


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_files_that_decord_gets_wrong_go_to_pyav(media: Path, name: str) -> None:
    with FrameGrabber(str(media / name)) as grabber:
        assert grabber.route == "pyav"
        assert all(frame.image is not None for frame in grabber.frames([0.0, 9.0, 2.0]))


def test_open_groups_of_pictures_go_to_pyav(tmp_path: Path, make_video: MakeVideo) -> None:
    options = {"x264-params": "open-gop=1:b-adapt=0:keyint=12:min-keyint=12:scenecut=0", "preset": "veryfast"}
    path = make_video(tmp_path / "v.mp4", num_frames=60, b_frames=3, options=options)
    with FrameGrabber(str(path)) as grabber:
        assert grabber.route == "pyav"
        frames = grabber.frames([0.04 * i + 0.01 for i in (37, 3, 36, 35, 59)])
    assert [frame_number(frame.image) for frame in frames] == [37, 3, 36, 35, 59]


@HAS_DECORD
@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_lost_child_is_replaced_by_pyav(tmp_path: Path, make_video: MakeVideo, fate: signal.Signals) -> None:
    path = make_video(tmp_path / "v.mp4", num_frames=60)
    with FrameGrabber(str(path)) as grabber:
        assert grabber.route == "decord"
        grabber.timeout_seconds = 0.5
        os.kill(grabber.child_pid, fate)
        frames = grabber.frames([1.0, 0.2])
        assert grabber.route == "pyav"
    assert [frame_number(frame.image) for frame in frames] == [25, 5]


@HAS_DECORD
def test_the_child_ends_with_its_grabber(tmp_path: Path, make_video: MakeVideo) -> None:
    grabber = FrameGrabber(str(make_video(tmp_path / "v.mp4")))
    pid = grabber.child_pid
    grabber.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_without_decord_pyav_reads(tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_access, "find_spec", lambda name: None)
    with FrameGrabber(str(make_video(tmp_path / "v.mp4"))) as grabber:
        assert grabber.route == "pyav"


def test_a_lost_end_shows_the_last_frame_before_it(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video(tmp_path / "v.mp4", num_frames=60)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        start, stop = packets[48].pos, packets[-1].pos + packets[-1].size  # from the last key frame on
    data = bytearray(path.read_bytes())
    data[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(data)
    with FrameGrabber(str(path)) as grabber:
        grabber.close()
        frames = grabber.frames([2.2, 0.4, 2.0])
    assert [frame_number(frame.image) for frame in frames] == [47, 10, 47]
