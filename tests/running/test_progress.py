from __future__ import annotations

import json

import pytest

from fcvideo.errors import ResourceError
from fcvideo.running import progress
from fcvideo.running.devices import resolve_gpus
from fcvideo.running.progress import Reporter


def report(mode: str) -> None:
    with Reporter(mode) as reporter:
        reporter.begin("embedding", 10.0)
        reporter.update(5.0, frames=1200, faces=3)
        reporter.say("a.mp4: no_video: [nothing] to see")


def test_plain_lines_say_where_the_job_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress.PlainLines, "seconds_between", 0.0)
    report("plain")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[:2] == ["embedding: 50%, frames 1,200, faces 3", "a.mp4: no_video: [nothing] to see"]


def test_lines_are_seldom(capsys: pytest.CaptureFixture[str]):
    report("plain")
    assert capsys.readouterr().err.count("embedding") == 1


def test_json_lines_are_json(capsys: pytest.CaptureFixture[str]):
    report("jsonl")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert events[0] == {"event": "message", "text": "a.mp4: no_video: [nothing] to see"}
    assert events[1].items() >= {"event": "progress", "phase": "embedding", "fraction": 0.5, "frames": 1200}.items()


def test_none_says_nothing(capsys: pytest.CaptureFixture[str]):
    report("none")
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_auto_is_plain(capsys: pytest.CaptureFixture[str]):
    report("auto")
    assert "embedding: 50%" in capsys.readouterr().err


def test_a_bar_is_drawn_on_stderr_and_messages_are_not_markup(capsys: pytest.CaptureFixture[str]):
    bar = progress.Bar()
    bar.begin("embedding", 10.0)
    bar.update(5.0, {"frames": 1200})
    bar.say("a.mp4: [nothing] to see")
    bar.end()
    out, err = capsys.readouterr()
    assert out == ""
    assert "a.mp4: [nothing] to see" in err
    assert "frames 1,200" in err


def test_all_gpus_are_taken_unless_told_otherwise():
    assert resolve_gpus(None, available=2) == 2
    assert resolve_gpus(1, available=2) == 1
    assert resolve_gpus(0) == 0


def test_missing_gpus_are_told_with_the_way_on():
    with pytest.raises(ResourceError, match=r"^--gpus 8: this machine has no GPU; go on with --gpus 0 \(CPU\)$"):
        resolve_gpus(8, available=0)
    with pytest.raises(ResourceError, match=r"this machine has 2 GPUs; go on with --gpus 2, or --gpus 0"):
        resolve_gpus(8, available=2)
