"""kill -9 of a run that renders, in its middle: what is rendered stays, and the file is that of a run undisturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fcvideo.assembly.task import Stages
from fcvideo.errors import InputError
from tests.jobs.renderers import BlindFinisher, DyingFinisher, LoggingRenderer, SomeSegments, begun_segments
from tests.jobs.rendering import (
    TIMES,
    faces_of,
    leftovers,
    pictures_of,
    run_frontalize,
    run_reenact,
    sound_of,
    write_clip,
)

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "astronaut.mp4"
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


def test_what_is_rendered_stays_when_joining_fails(tmp_path: Path, tiny_model: Path):
    video = write_clip(tmp_path / "clip.mp4", faces_of(SAMPLE, 72, (192, 192)))
    out, stages = tmp_path / "a.mp4", Stages(SomeSegments, LoggingRenderer)
    run = {"model": tiny_model, "out": str(out), "duration": 1.6}
    failed = run_frontalize(video, stages=replace(stages, finisher=DyingFinisher), **run)
    num_segments = len(begun_segments(video))
    (row,) = json.loads((tmp_path / ".a.mp4.json").read_text())["outputs"].values()
    assert (failed["exit_code"], row["status"], out.exists()) == (3, "error", False)
    assert f"its {num_segments} segments are kept, but not joined: " in row["error"]
    assert "SIGSEGV" in row["error"]
    assert run_frontalize(video, stages=stages, **run)["exit_code"] == 0
    assert len(begun_segments(video)) == num_segments > 2
    assert len(pictures_of(out)) == sum(500 <= time < 2100 for time in TIMES)
    assert leftovers(tmp_path) == []


def test_what_is_rendered_stays_when_a_target_is_lost(tmp_path: Path, tiny_model: Path):
    video = write_clip(tmp_path / "clip.mp4", faces_of(SAMPLE, 72, (192, 192)))
    face = tmp_path / "face.png"
    Image.fromarray(faces_of(SAMPLE, 1, (192, 192))[0]).save(face)
    run = {"target": face, "model": tiny_model, "out": str(tmp_path / "a.mp4"), "duration": 1.6}
    run_reenact(video, stages=Stages(SomeSegments, LoggingRenderer, DyingFinisher), **run)
    num_segments = len(begun_segments(video))
    with pytest.raises(InputError, match="killed the process"):
        run_reenact(video, stages=Stages(SomeSegments, LoggingRenderer, BlindFinisher), **run)
    assert run_reenact(video, stages=Stages(SomeSegments, LoggingRenderer), **run)["exit_code"] == 0
    assert len(begun_segments(video)) == num_segments > 2
