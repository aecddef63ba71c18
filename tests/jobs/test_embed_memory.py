"""Peak memory of `embed` does not grow with the video's length."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import pytest

RATE = 10


def loop_clip(source: Path, target: Path, seconds: int) -> Path:
    """The first seconds of a clip, small, over and over; a key frame a second."""
    with av.open(str(source)) as container:
        pictures = [frame.reformat(180, 144, "yuv420p").to_ndarray() for frame in islice(container.decode(video=0), 50)]
    with av.open(str(target), "w") as container:
        stream = container.add_stream("h264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 180, 144, "yuv420p"
        stream.codec_context.gop_size = RATE
        for number in range(seconds * RATE):
            frame = av.VideoFrame.from_ndarray(pictures[number % len(pictures)], format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target


def peak_mb(video: Path, model: Path, out: Path) -> float:
    """Sum over the processes of one run of their highest resident memory."""
    arguments = [str(video), "--out", str(out), "--model", str(model), "--gpus", "0", "--workers", "1"]
    child = subprocess.Popen([sys.executable, "-m", "fcvideo", "embed", *arguments, "--progress", "none"])
    peaks: dict[int, float] = {}

    def watch() -> None:
        while child.poll() is None:
            children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
            for pid in [child.pid, *map(int, children.read_text().split() if children.exists() else ())]:
                status = Path(f"/proc/{pid}/status")
                for line in status.read_text().splitlines() if status.exists() else ():
                    if line.startswith("VmHWM"):
                        peaks[pid] = int(line.split()[1]) / 1024
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert child.wait() == 0
    watcher.join()
    return sum(peaks.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_twenty_minutes_take_no_more_memory_than_one(tmp_path: Path, model: Path, media: Path):
    one, twenty = (
        peak_mb(
            loop_clip(media / "franck.mp4", tmp_path / f"{minutes}.mp4", 60 * minutes),
            model,
            tmp_path / f"{minutes}.parquet",
        )
        for minutes in (1, 20)
    )
    print(f"peak memory: {one:.0f} MB for one minute, {twenty:.0f} MB for twenty")
    assert twenty < 1.15 * one
