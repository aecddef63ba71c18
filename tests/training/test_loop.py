import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from fcvideo.clips.store import ClipStore
from fcvideo.config import TrainSettings
from fcvideo.errors import OutputError, SettingsError, TrainingError
from fcvideo.models.facecycle import FaceCycle
from fcvideo.models.store import load_model, save_model
from fcvideo.models.vgg import load_vgg
from fcvideo.training.checkpoint import load_checkpoint, save_checkpoint
from fcvideo.training.loop import FIRST_PICTURES, LESSON, Rank, Run, run_rank
from fcvideo.training.plan import num_lesson_images, resolve_recipe
from fcvideo.training.recipes import DEFAULT

SCRIPT = """
import sys
from pathlib import Path
from fcvideo.clips.store import ClipStore
from fcvideo.config import TrainSettings
from fcvideo.training.loop import Rank, run_rank
settings = TrainSettings(**eval(sys.argv[1]))
run_rank(settings, ClipStore(settings.data), Path(settings.out), Rank())
"""


@pytest.fixture
def settings(crops_file: Path, vgg_file: Path, tiny_model: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        data=str(crops_file),
        out=str(tmp_path / "run"),
        vgg=str(vgg_file),
        init=str(tiny_model),
        batch_size=4,
        epochs_stage1=1,
        lesson_steps=0,
        epochs_stage2=0.5,
        picture_steps=0,
        precision="float32",
        checkpoint_seconds=0,
    )


def start(settings: TrainSettings) -> subprocess.Popen[bytes]:
    arguments = repr(dataclasses.asdict(settings))
    return subprocess.Popen([sys.executable, "-c", SCRIPT, arguments], start_new_session=True)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(settings: TrainSettings, tmp_path: Path) -> None:
    assert start(settings).wait() == 0
    killed = dataclasses.replace(settings, out=str(tmp_path / "killed"))
    for step in (2, 7):  # in stage 1, and in stage 2 (6 and 3 steps)
        process = start(killed)
        wait_for(tmp_path / "killed" / "checkpoints" / f"step-{step:09d}.pt", process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(killed).wait() == 0
    whole, resumed = (load_file(Path(s.out) / "model" / "model.safetensors") for s in (settings, killed))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_the_loss_falls_and_the_run_leaves_a_model_curves_and_sheets(settings: TrainSettings) -> None:
    settings = dataclasses.replace(
        settings, epochs_stage1=20, lr_stage1=1e-3, picture_steps=60, checkpoint_seconds=60, losses="told_features=0"
    )
    reports: list[dict[str, float]] = []
    summary = run_rank(settings, ClipStore(settings.data), Path(settings.out), Rank(), reports.append)
    stage1 = [r["total"] for r in reports if r["stage"] == 1]
    assert stage1[-1] < 0.98 * stage1[0]
    assert summary["steps_stage1"] == 120
    folder = Path(settings.out)
    assert not load_model(str(folder / "model")).training
    assert "recipe | default" in (folder / "model" / "README.md").read_text()
    assert list((folder / "curves").glob("events*"))
    assert sorted(p.name for p in (folder / "sheets").iterdir()) == ["stage1-0000060.png", "stage1-0000120.png"]
    assert len(list((folder / "checkpoints").iterdir())) <= 2


def test_another_runs_checkpoint_is_refused(settings: TrainSettings) -> None:
    short = dataclasses.replace(settings, epochs_stage1=0.2, epochs_stage2=0)
    run_rank(short, ClipStore(short.data), Path(short.out), Rank())
    with pytest.raises(OutputError, match="run with seed 0, not 1"):
        run_rank(dataclasses.replace(short, seed=1), ClipStore(short.data), Path(short.out), Rank())


def test_a_damaged_checkpoint_yields_to_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"identity": {"a": 1}, "step": 1})
    newest = save_checkpoint(tmp_path, 2, {"identity": {"a": 1}, "step": 2})
    newest.write_bytes(newest.read_bytes()[:100])
    state = load_checkpoint(tmp_path, {"a": 1})
    assert state is not None
    assert state["step"] == 1
    (tmp_path / "step-000000001.pt").write_bytes(b"")
    with pytest.raises(TrainingError, match="no checkpoint there can be read"):
        load_checkpoint(tmp_path, {"a": 1})


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(settings: TrainSettings) -> None:
    wild = dataclasses.replace(settings, lr_stage1=1e12, epochs_stage1=8, checkpoint_seconds=60)
    with pytest.raises(TrainingError, match=r"stage 1, step \d+: a loss is not finite"):
        run_rank(wild, ClipStore(wild.data), Path(wild.out), Rank())


def test_weights_that_are_not_finite_are_never_saved(settings: TrainSettings) -> None:
    wild = dataclasses.replace(settings, lr_stage1=1e12, epochs_stage1=8, checkpoint_seconds=0)
    with pytest.raises(TrainingError, match=r"step \d+: model\..* is not finite; the checkpoint before it is kept"):
        run_rank(wild, ClipStore(wild.data), Path(wild.out), Rank())
    for path in (Path(wild.out) / "checkpoints").iterdir():
        weights = torch.load(path, weights_only=True)["model"]
        assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_the_recipes_are_the_papers_and_the_released_codes() -> None:
    paper = resolve_recipe(TrainSettings(recipe="paper"))
    assert paper.batch_size == 32
    assert [paper.stage1.lr * paper.stage1.factor(s, 100) for s in (0, 49, 50, 99)] == pytest.approx(
        [5e-5, 5e-5, 5e-6, 5e-6]
    )
    released = resolve_recipe(TrainSettings(recipe="released"))
    rates = [released.stage1.lr * released.stage1.factor(epoch, 40) for epoch in (0, 1, 19, 20, 39)]
    assert rates == pytest.approx([1e-5, 5e-5, 5e-5, 1e-5, 1e-5])
    rates = [released.stage2.lr * released.stage2.factor(epoch, 20) for epoch in (0, 1, 9, 10)]
    assert rates == pytest.approx([5e-5, 1e-4, 1e-4, 1e-5])
    assert released.stage2.betas == (0.5, 0.9)


@pytest.mark.parametrize(
    ("losses", "message"),
    [("smoothness=1", "no loss 'smoothness'"), ("symmetry", "expected name=weight"), ("symmetry=-1", "0 or more")],
)
def test_odd_loss_switches_are_named(losses: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve_recipe(TrainSettings(losses=losses))


def test_loss_switches_change_the_recipe() -> None:
    recipe = resolve_recipe(TrainSettings(losses="symmetry=0, ssim_rebuilt=2"))
    assert recipe.expression.symmetry == recipe.identity.symmetry == 0
    assert recipe.expression.ssim_rebuilt == recipe.identity.ssim_rebuilt == 2


def test_a_batch_that_the_workers_cannot_share_is_refused(settings: TrainSettings) -> None:
    with pytest.raises(SettingsError, match="found 4, expected a multiple of 6, at least 12"):
        run_rank(settings, ClipStore(settings.data), Path(settings.out), Rank(0, 3, "cpu"))


def test_a_lesson_is_for_new_expression_encoders_and_short_where_faces_are_few(settings: TrainSettings) -> None:
    steps = DEFAULT.lesson.num_steps
    default = dataclasses.replace(settings, lesson_steps=None)
    assert steps > 0
    assert resolve_recipe(default).lesson.num_steps == 0  # goes on with a trained one
    assert resolve_recipe(dataclasses.replace(default, init=None)).lesson.num_steps == steps
    assert resolve_recipe(dataclasses.replace(default, renew_expression=True)).lesson.num_steps == steps
    assert resolve_recipe(dataclasses.replace(default, lesson_steps=7)).lesson.num_steps == 7
    store = ClipStore(settings.data)
    assert num_lesson_images(DEFAULT.lesson, store) == 4 * store.clip_lengths.sum() < DEFAULT.lesson.num_images


def test_a_new_expression_encoder_learns_to_make_the_flows_that_the_old_one_made(
    settings: TrainSettings, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    sizes = dataclasses.replace(load_model(settings.init or "").config, encoders_read="conv4_1", code_dim=32)
    old = FaceCycle(sizes)
    old.init_fan_in()
    old.stem.load(load_vgg(settings.vgg))
    save_model(old, tmp_path / "old")
    settings = dataclasses.replace(
        settings, init=str(tmp_path / "old"), renew_expression=True, lesson_steps=20, epochs_stage1=0.1, epochs_stage2=0
    )
    recipe = resolve_recipe(settings)
    recipe = dataclasses.replace(recipe, lesson=dataclasses.replace(recipe.lesson, num_images=64, lr=1e-3))
    reports: list[dict[str, float]] = []
    Run(settings, recipe, ClipStore(settings.data), Path(settings.out), Rank(), reports.append).complete()
    assert reports[0] == {"stage": FIRST_PICTURES, "step": 64, "num_steps": 64}
    errors = [found["kept_flows"] for found in reports if found["stage"] == LESSON]
    assert 0 < errors[-1] < 0.05  # of the variance of flows
    assert "| lesson | 20 steps of 64 of 64 pictures" in (Path(settings.out) / "model" / "README.md").read_text()
    made = load_model(str(Path(settings.out) / "model"))
    assert made.config == dataclasses.replace(old.config, reads_detector=True)
    kept, now = old.state_dict(), made.state_dict()
    changed = {name.split(".")[0] for name in kept if not torch.allclose(kept[name], now[name], atol=1e-2)}
    assert "expression_encoder" in changed
    assert not changed & {"identity_encoder", "identity_decoder", "stem"}


def test_what_cannot_be_renewed_is_told(settings: TrainSettings) -> None:
    settings = dataclasses.replace(settings, renew_expression=True)
    with pytest.raises(SettingsError, match="--renew-expression: found a model whose encoders read pixels"):
        run_rank(settings, ClipStore(settings.data), Path(settings.out), Rank())
    with pytest.raises(SettingsError, match="--renew-expression: found no --init"):
        resolve_recipe(dataclasses.replace(settings, init=None))


def _go_on(rank: int, settings: TrainSettings, folders: list[Path], meet: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    own = dataclasses.replace(settings, out=str(folders[rank]))
    steps: list[dict[str, float]] = []
    run_rank(own, ClipStore(own.data), folders[rank], Rank(rank, 2), steps.append)
    folders[rank].mkdir(exist_ok=True)
    (folders[rank] / "first-step.txt").write_text(str(steps[0]["step"]))
    dist.destroy_process_group()


def test_ranks_that_find_different_checkpoints_go_on_where_the_first_does(
    settings: TrainSettings, tmp_path: Path
) -> None:
    """As on machines whose disks are not the same: the newest checkpoint of the first rank counts."""
    settings = dataclasses.replace(settings, batch_size=8, epochs_stage1=4, epochs_stage2=0)
    folders = [tmp_path / "a", tmp_path / "b"]
    half = dataclasses.replace(settings, out=str(folders[0]))
    with pytest.raises(KeyboardInterrupt):
        run_rank(half, ClipStore(half.data), folders[0], Rank(), _interrupt_at(2))
    assert list((folders[0] / "checkpoints").glob("step-*.pt"))
    mp.spawn(_go_on, (settings, folders, tmp_path / "meet"), nprocs=2)
    first, second = (int(float((folder / "first-step.txt").read_text())) for folder in folders)
    assert first == second > 1
    weights = load_model(str(folders[0] / "model")).state_dict()
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def _interrupt_at(num_reports: int) -> Callable[[dict[str, float]], None]:
    seen: list[int] = []

    def report(found: dict[str, float]) -> None:
        seen.append(1)
        if len(seen) == num_reports:
            raise KeyboardInterrupt

    return report


def test_a_full_disk_is_told_in_a_line_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own; torch's own error would not name the disk."""
    code = """
import resource, signal, sys, torch
from pathlib import Path
from fcvideo.training.checkpoint import save_checkpoint
folder = Path(sys.argv[1])
save_checkpoint(folder, 1, {"identity": {}, "model": torch.zeros(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
save_checkpoint(folder, 2, {"identity": {}, "model": torch.zeros(1 << 20)})
"""
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.endswith("step-000000002.pt: cannot be written (File too large)")
    assert last.startswith("fcvideo.errors.OutputError")
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]
