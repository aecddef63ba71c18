import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from fcvideo import __version__
from fcvideo.config import (
    EmbedSettings,
    EvaluateSettings,
    JobSettings,
    PrepareSettings,
    ReenactSettings,
    TrainSettings,
)
from fcvideo.errors import OutputError, SettingsError
from fcvideo.settings import resolve

FCVIDEO = [sys.executable, "-m", "fcvideo"]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FCVIDEO, *arguments], capture_output=True, text=True, cwd=cwd)


def test_help_answers_in_under_half_a_second() -> None:
    run("--help")  # byte code is compiled once
    before = os.times()
    found = run("--help")
    after = os.times()  # of the child's own work: other tests run beside this one
    assert sum(after[2:4]) - sum(before[2:4]) < 0.5
    assert found.returncode == 0
    assert all(command in found.stdout for command in ("embed", "prepare", "train"))


def test_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, fcvideo.cli; print([m for m in ('torch', 'ray', 'av', 'pyarrow', 'numpy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_version() -> None:
    assert run("--version").stdout.strip() == f"fcvideo {__version__}"


@pytest.mark.parametrize("command", ["embed", "prepare", "train"])
def test_every_setting_is_a_flag(command: str) -> None:
    found = run(command, "--help")
    assert found.returncode == 0
    assert "--dry-run" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed", "no-such.mp4", "--gpus", "0"), "no-such.mp4"),
        (("embed", "x.mp4", "--fps", "-1"), "fps: found -1.0, expected at least 0.001"),
        (("train", "--gpus", "0"), "faces/: no such file or folder"),
        (("embed", "x.mp4", "--score", "7"), "score: found 7.0, expected at most 1"),
        (("embed", "x.mp4", "--no-such-flag"), "--no-such-flag"),
        (("embed", "x.mp4", "--config", "no.toml"), "no.toml: not a TOML file"),
        (("embed", "~nobody-of-this-name.mp4", "--gpus", "0"), "~nobody-of-this-name.mp4: found nothing there"),
        (("frontalize", "~x.mp4", "--out", "~y/", "--gpus", "0"), "~x.mp4: found nothing there"),
        (("embed", "x.mp4", "--out", "s3://bucket/e.parquet", "--dry-run"), "out: found s3://bucket/e.parquet"),
        (("import-checkpoint", "x.tar", "--out", "s3://bucket/model"), "out: found s3://bucket/model"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    found = run(*arguments, cwd=tmp_path)
    assert found.returncode == 2
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize(
    "arguments", [("--version",), ("embed", "face.png", "--out", "e.parquet", "--dry-run"), ("-h",)]
)
def test_a_full_stdout_is_one_line_and_exit_1(tmp_path: Path, arguments: tuple[str, ...], is_buffered: bool) -> None:
    (tmp_path / "face.png").write_bytes(b"no video")
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if is_buffered else "1"}
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [*FCVIDEO, *arguments], cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert [line for line in found.stderr.splitlines() if "No space left on device" in line] == [
        found.stderr.splitlines()[-1]
    ]


@pytest.mark.parametrize("command", ["prepare", "embed", "evaluate"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, command: str) -> None:
    """A folder below a file: nobody can make it, not even root."""
    (tmp_path / "file").touch()
    PIL.Image.new("RGB", (64, 64)).save(tmp_path / "face.png")
    inputs = {"evaluate": ("--task", "pose", "--train", "face.png")}.get(command, ("face.png",))
    found = run(command, *inputs, "--out", "file/clips/", "--progress", "none", cwd=tmp_path)
    assert found.returncode == 2
    assert re.fullmatch("fcvideo: file/clips[^\\n]*: cannot be written \\(Not a directory\\)\n", found.stderr)


def test_a_flag_beats_the_file_and_the_file_beats_the_default(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('fps = 5\nmin-face = 64\ninputs = ["a.mp4"]\n')
    settings = resolve(EmbedSettings, {"fps": 2.0, "batch_size": None, "inputs": ()}, file)
    assert (settings.fps, settings.min_face, settings.batch_size, settings.inputs) == (2.0, 64, None, ("a.mp4",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fsp = 5", "unknown key 'fsp'"),
        ('fps = "fast"', "fps: found 'fast', expected float"),
        ('progress = "loud"', "progress: found 'loud', expected one of auto, plain, jsonl, none"),
        ("min_face = 1", "min_face: found 1, expected at least 8"),
        ("fps = ", "not a TOML file"),
    ],
)
def test_a_wrong_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        resolve(EmbedSettings, {}, file)


def test_the_defaults_are_valid() -> None:
    assert resolve(EmbedSettings, {}) == EmbedSettings()
    assert resolve(TrainSettings, {}) == TrainSettings()


@pytest.mark.parametrize(
    "arguments",
    [("embed", "fifo.mp4"), ("frontalize", "fifo.mp4"), ("reenact", "--source", "a.png", "--target", "fifo.mp4")],
)
def test_a_fifo_is_refused_at_once(arguments: tuple[str, ...], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    found = subprocess.run([*FCVIDEO, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert found.returncode == 2
    assert found.stderr == "fcvideo: fifo.mp4: found a FIFO, expected a file; write what it gives into one first\n"


def jobs_settings(kind: type[JobSettings] = JobSettings) -> Iterator[type[JobSettings]]:
    for child in kind.__subclasses__():
        yield child
        yield from jobs_settings(child)


def test_no_job_takes_a_url_to_write_to(tmp_path: Path) -> None:
    writing = [kind for kind in jobs_settings() if "out" in inspect.signature(kind).parameters]
    assert len(writing) >= 7
    for kind in writing:
        for url in ("s3://bucket/e.parquet", "file:///tmp/x.mp4", "HTTPS://host/x"):
            with pytest.raises(SettingsError, match=f"out: found {url}"):
                resolve(kind, {"out": url})
        (tmp_path / "job.toml").write_text('out = "gs://bucket/x/"')
        with pytest.raises(SettingsError, match="out: found gs://bucket/x/"):
            resolve(kind, {}, tmp_path / "job.toml")
        assert resolve(kind, {"out": "a/b.parquet"}).out == "a/b.parquet"


@pytest.mark.parametrize("kind", [EmbedSettings, PrepareSettings, TrainSettings, ReenactSettings, EvaluateSettings])
def test_an_output_whose_name_is_too_long_is_refused_at_once(kind: type[JobSettings], tmp_path: Path) -> None:
    for out in ("a" * 256, f"{'é' * 128}/x.mp4"):
        with pytest.raises(OutputError, match="found a name of 256 bytes, expected at most 255; choose another --out"):
            resolve(kind, {"out": f"{tmp_path}/{out}"})
