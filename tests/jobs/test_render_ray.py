"""Ray's engine renders what this machine's processes render, and survives the same videos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fcvideo.assembly.task import Stages
from tests.jobs.renderers import PoisonedRenderer, SomeSegments
from tests.jobs.rendering import counts, digests, faces_of, run_frontalize, write_clip

pytestmark = pytest.mark.usefixtures("shared_ray")


def test_both_engines_render_the_same(tmp_path: Path, tiny_model: Path, media: Path):
    clip = write_clip(tmp_path / "clip.mp4", faces_of(media / "pyfeat_single_face.mp4", 72))
    poison = Path(shutil.copy(clip, tmp_path / "poison.mp4"))
    stages = Stages(SomeSegments, PoisonedRenderer)
    summaries = {
        engine: run_frontalize(
            clip, poison, model=tiny_model, stages=stages, out=f"{tmp_path / engine}/", duration=1.2, engine=engine
        )
        for engine in ("local", "ray")
    }
    local, ray = summaries.values()
    assert (ray["exit_code"], ray["outputs"], ray["failed"]) == (3, 1, 1)
    assert counts(ray) == counts(local)
    for engine in summaries:
        record = json.loads((tmp_path / engine / "renderings.json").read_text())["outputs"]
        assert record["poison.mp4"]["status"] == "crashed"
        assert not (tmp_path / engine / "poison.mp4").exists()
    assert digests(tmp_path / "ray" / "clip.mp4") == digests(tmp_path / "local" / "clip.mp4")
