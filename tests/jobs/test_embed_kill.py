"""kill -9 of the whole process group, ten times at random moments: the table is that of an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.jobs.embedding import assert_same_tables, run, videos_of
from tests.jobs.readers import SlowReader

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from tests.jobs.embedding import run
from tests.jobs.readers import SlowReader
*inputs, out, model = map(Path, sys.argv[1:])
print(run(*inputs, out=out, model=model, reader=SlowReader)["exit_code"])
"""


def start(*arguments: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE)


def wait_for_a_new_part(folder: Path, before: int, child: subprocess.Popen[bytes]) -> int:
    """Number of parts when there is one more than before, or when the child has ended."""
    while (count := len(list(folder.rglob("*.parquet")))) <= before and child.poll() is None:
        time.sleep(0.01)
    return count


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_ten_kills_leave_no_trace(tmp_path: Path, model: Path, make_video: Callable[..., Path], media: Path):
    # no key frame to cut at: 32 segments, faces in the first video only
    inputs = [media / "pyfeat_single_face.mp4", make_video(tmp_path / "a.mp4", num_frames=800, rate=25, gop=25)]
    undisturbed, out = tmp_path / "undisturbed.parquet", tmp_path / "killed.parquet"
    run(*inputs, out=undisturbed, model=model, reader=SlowReader)

    chance = random.Random(0)
    num_parts = num_killed = 0
    for _ in range(10):
        child = start(*inputs, out, model)
        # Half the kills fall where parts are being written, half anywhere from the start of Python on.
        if chance.random() < 0.5:
            num_parts = wait_for_a_new_part(tmp_path / "killed.parquet.parts", num_parts, child)
            time.sleep(chance.random() * 0.1)
        else:
            time.sleep(chance.random() * 4)
        num_killed += child.poll() is None
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    last = start(*inputs, out, model)
    printed, _ = last.communicate()
    assert (last.returncode, printed) == (0, b"0\n")
    assert num_killed >= 5
    assert_same_tables(pq.read_table(out), pq.read_table(undisturbed))
    assert videos_of(out) == videos_of(undisturbed)
    assert not (tmp_path / "killed.parquet.parts").exists()


def test_an_interrupt_exits_130_and_leaves_parts(tmp_path: Path, model: Path, make_video: Callable[..., Path]):
    video = make_video(tmp_path / "long.mp4", num_frames=4000, rate=25, gop=25)
    out = tmp_path / "e.parquet"
    command = [sys.executable, "-m", "fcvideo", "embed", video, "--out", out, "--model", model, "--gpus", "0"]
    child = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, start_new_session=True)
    wait_for_a_new_part(tmp_path / "e.parquet.parts", 0, child)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.decode().splitlines()[-1].startswith("fcvideo: interrupted")
    assert b"Traceback" not in said
    assert list((tmp_path / "e.parquet.parts").rglob("*.parquet"))
