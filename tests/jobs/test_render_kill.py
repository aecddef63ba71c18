"""kill -9 of a run that renders, in its middle: what is rendered stays, and the file is that of a run undisturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fcvideo.assembly.task import Stages
from tests.jobs.renderers import LoggingRenderer, SomeSegments, begun_segments
from tests.jobs.rendering import faces_of, leftovers, run_frontalize, sound_of, write_clip

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from fcvideo.assembly.task import Stages
from tests.jobs.renderers import SlowRenderer, SomeSegments
from tests.jobs.rendering import run_frontalize
video, out, model = map(Path, sys.argv[1:4])
stages = Stages(SomeSegments, SlowRenderer)
run_frontalize(video, model=model, stages=stages, out=str(out), overwrite=sys.argv[4] == "True")
"""


@pytest.mark.parametrize("overwrite", [False, True])
def test_finished_segments_are_not_rendered_again(tmp_path: Path, tiny_model: Path, media: Path, overwrite: bool):
    """With --overwrite too: a scheduler runs the same command again after a kill."""
    video = write_clip(tmp_path / "clip.mp4", faces_of(media / "pyfeat_single_face.mp4", 72))
    out, parts = tmp_path / "a.mp4", tmp_path / "a.mp4.parts"
    command = [sys.executable, "-c", PROGRAM, *map(str, (video, out, tiny_model, overwrite))]
    child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while child.poll() is None and len(list(parts.glob("*/0000?.json"))) < 3:
        time.sleep(0.01)
    assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not out.exists()
    finished = {int(record.stem) for record in parts.glob("*/0000?.json")}
    run_frontalize(
        video, model=tiny_model, stages=Stages(SomeSegments, LoggingRenderer), out=str(out), overwrite=overwrite
    )
    begun = Counter(begun_segments(video))
    assert set(begun) == set(range(7))
    assert {begun[index] for index in finished} == {1}
    assert 3 <= len(finished) < 7
    undisturbed = tmp_path / "b.mp4"
    run_frontalize(video, model=tiny_model, stages=Stages(SomeSegments), out=str(undisturbed))
    assert out.read_bytes() == undisturbed.read_bytes()
    assert sound_of(out) == sound_of(video)
    assert leftovers(tmp_path) == []
