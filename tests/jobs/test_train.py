"""Training as a command: ranks, data, restarts. What a rank computes is tested in tests/training."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fcvideo.atomic import FolderLock
from fcvideo.clips.shards import Clip, write_shard
from fcvideo.clips.store import ClipStore
from fcvideo.config import TrainSettings
from fcvideo.errors import InputError, ModelError, OutputError, ResourceError, SettingsError
from fcvideo.jobs import train as job
from fcvideo.jobs.train import train
from fcvideo.models.vgg import NAMES, VGG19

NUM_CLIPS = 16


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of noise that is smooth enough to be learned from."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("faces")
    clips = []
    for number in range(NUM_CLIPS):
        frames = []
        for _ in range(3):
            buffer = io.BytesIO()
            picture = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
            picture.resize((96, 96), Image.Resampling.BICUBIC).save(buffer, "JPEG")
            frames.append(buffer.getvalue())
        boxes = np.zeros((3, 4), np.float32)
        clips.append(Clip(f"v#{number}", "v.mp4", None, frames, [0.0, 0.2, 0.4], [0, 5, 10], boxes))
    write_shard(folder / "clips-00000.parquet", clips, {"framing": {"side_factor": 1.45, "center": [0.5, 0.4]}})
    return folder


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of VGG-19's shapes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    numbers = dict(zip(NAMES, (0, 2, 5, 7, 10, 12, 14, 16, 19), strict=True))
    weights = {}
    for name, convolution in VGG19("conv4_1").convolutions.items():
        weights[f"features.{numbers[name]}.weight"] = convolution.weight.data
        weights[f"features.{numbers[name]}.bias"] = convolution.bias.data
    save_file(weights, path)
    return path


@pytest.fixture
def settings_for(faces: Path, vgg_file: Path) -> Callable[..., TrainSettings]:
    def make(out: Path, **changes: Any) -> TrainSettings:
        values: dict[str, Any] = {
            "data": str(faces),
            "out": str(out),
            "vgg": str(vgg_file),
            "gpus": 0,
            "batch_size": 4,
            "epochs_stage1": 1.0,
            "lesson_steps": 0,
            "epochs_stage2": 0.5,
            "checkpoint_seconds": 0.0,
            "picture_steps": 0,
            "progress": "none",
        }
        return TrainSettings(**values | changes)

    return make


# Two pairs to each of them in a step, as many steps as of one rank with batches of 4.
TWO_RANKS = {"workers": 2, "batch_size": 8, "epochs_stage1": 2.0, "epochs_stage2": 1.0}


@pytest.fixture(scope="module")
def two_ranks(
    shared_ray: None, faces: Path, vgg_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """An uninterrupted run of two gloo workers."""
    out = tmp_path_factory.mktemp("two_ranks")
    make = settings_for.__wrapped__(faces, vgg_file)  # type: ignore[attr-defined]
    return out, train(make(out, **TWO_RANKS))


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.timeout(900)
def test_two_workers_train_both_stages(two_ranks: tuple[Path, dict[str, Any]]) -> None:
    out, summary = two_ranks
    assert (summary["workers"], summary["device"], summary["exit_code"]) == (2, "cpu", 0)
    assert (summary["steps_stage1"], summary["steps_stage2"]) == (8, 4)
    assert np.isfinite(summary["losses"]["total"])
    assert (out / "model" / "config.json").is_file()
    assert list((out / "curves").iterdir())
    assert not (out / ".ray").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)  # Ray starts twice: minutes on a busy machine
def test_a_killed_worker_is_started_again_and_ends_with_the_same_weights(
    two_ranks: tuple[Path, dict[str, Any]],
    settings_for: Callable[..., TrainSettings],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        while not list(tmp_path.glob("checkpoints/step-*.pt")):
            time.sleep(0.02)
        victim = next(iter(ray_workers()))
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    train(settings_for(tmp_path, **TWO_RANKS, progress="plain"))
    killer.join(5)
    assert killed
    assert "a worker failed; all go on from the newest checkpoint" in capsys.readouterr().err
    assert_same_weights(tmp_path, two_ranks[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_was_killed_whole_goes_on_to_the_same_weights(
    two_ranks: tuple[Path, dict[str, Any]], settings_for: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, **TWO_RANKS)
    flags = [
        f"--{name.replace('_', '-')}={getattr(settings, name)}" for name in vars(settings) if is_flag(settings, name)
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "fcvideo", "train", *flags], stdout=subprocess.DEVNULL, start_new_session=True
    )
    while not list(tmp_path.glob("checkpoints/step-*.pt")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(3)  # the workers see that their driver is gone
    assert not (tmp_path / "model").exists()
    train(settings)
    assert_same_weights(tmp_path, two_ranks[0])


def is_flag(settings: TrainSettings, name: str) -> bool:
    value = getattr(settings, name)
    return value is not None and not isinstance(value, bool)


def ray_workers() -> Iterator[int]:
    """Process ids of this test's own Ray Train workers."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_descendant(int(entry.name)):
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"RayTrainWorker" in command:
                yield int(entry.name)


def is_descendant(pid: int) -> bool:
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
        if pid == os.getpid():
            return True
    return False


@pytest.mark.usefixtures("shared_ray")
@pytest.mark.timeout(900)
def test_a_mistake_that_the_workers_find_is_told_as_it_is(
    settings_for: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="expected a multiple of 4"):
        train(settings_for(tmp_path, workers=2, batch_size=6))


def test_one_worker_needs_no_ray(
    settings_for: Callable[..., TrainSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    summary = train(settings_for(tmp_path, epochs_stage1=0.25, epochs_stage2=0.0))
    assert (summary["workers"], summary["steps_stage1"], summary["clips"]) == (1, 2, NUM_CLIPS)
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.timeout(900)
def test_workers_find_clips_and_stills_of_relative_paths(
    shared_ray: None,
    faces: Path,
    settings_for: Callable[..., TrainSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(faces.parent)
    stills = ClipStore(str(faces)).frames(0)
    pq.write_table(pa.table({"jpeg": stills}), "stills.parquet")
    given = settings_for(tmp_path, data=faces.name, stills="stills.parquet, stills.parquet", **TWO_RANKS)
    summary = train(dataclasses.replace(given, epochs_stage1=0.2, epochs_stage2=0.0))
    assert (summary["clips"], summary["stills"], summary["steps_stage1"]) == (NUM_CLIPS, 2 * len(stills), 2)


def test_overwrite_removes_the_earlier_run_and_nothing_else(
    settings_for: Callable[..., TrainSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("checkpoints", "curves", "sheets", "model", "faces"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(job, "run_rank", lambda *_: {})
    train(settings_for(tmp_path))
    assert len(results_in(tmp_path)) == 5
    train(settings_for(tmp_path, overwrite=True))
    assert results_in(tmp_path) == ["faces"]


def results_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def test_a_killed_overwrite_goes_on_when_it_comes_again(
    settings_for: Callable[..., TrainSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        (tmp_path / "checkpoints").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "run_rank", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(settings_for(tmp_path, overwrite=True))
    monkeypatch.setattr(job, "run_rank", lambda *_: {})
    train(settings_for(tmp_path, overwrite=True))
    assert results_in(tmp_path) == ["checkpoints"]
    train(settings_for(tmp_path, overwrite=True))  # that one was finished: this is another
    assert results_in(tmp_path) == []


def test_two_runs_in_one_folder_are_one_too_many(settings_for: Callable[..., TrainSettings], tmp_path: Path) -> None:
    other = FolderLock(tmp_path, ".lock")
    other.take()
    with pytest.raises(OutputError, match="another fcvideo is at work here"):
        train(settings_for(tmp_path, seed=2))
    other.release()


def test_a_folder_of_videos_is_prepared_first(
    media: Path,
    settings_for: Callable[..., TrainSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "run"
    videos.mkdir()
    (videos / "a.mp4").symlink_to(media / "lp_d12.mp4")
    stores = []
    monkeypatch.setattr(job, "run_rank", lambda settings, store, *_: stores.append(store) or {})
    summary = train(settings_for(out, data=str(videos), progress="plain"))
    assert summary["clips"] == len(stores[0]) > 0
    assert stores[0].path == str(out / "faces")
    assert f"cutting their faces into {out / 'faces'} first" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    settings_for: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    summary = train(settings_for(tmp_path / "run", workers=2, dry_run=True))
    assert (summary["workers"], summary["clips"], summary["steps_stage1"]) == (2, NUM_CLIPS, 8)
    assert not (tmp_path / "run").exists()


def test_what_cannot_start_is_told_before_anything_starts(
    settings_for: Callable[..., TrainSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "ray_cluster", None)
    with pytest.raises(ModelError, match="no such file of VGG-19 weights"):
        train(settings_for(tmp_path / "run", workers=2, vgg=str(tmp_path / "absent")))
    with pytest.raises(InputError, match="no such file or folder"):
        train(settings_for(tmp_path / "run", workers=2, data=str(tmp_path / "absent")))
    with pytest.raises(ModelError, match="no such preset"):
        train(settings_for(tmp_path / "run", workers=2, model="facecycle-65"))
    with pytest.raises(ResourceError, match="has no GPU" if not torch.cuda.is_available() else "GPU"):
        train(settings_for(tmp_path / "run", workers=2, gpus=512))
    assert not (tmp_path / "run").exists()


def test_more_gpus_than_there_are_is_one_line_and_exit_2() -> None:
    command = [sys.executable, "-m", "fcvideo", "train", "--gpus", "512"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert line.startswith("fcvideo: --gpus 512: this machine has ")
    assert "--gpus 0 (CPU)" in line
