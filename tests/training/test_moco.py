import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from fcvideo.clips.pairs import PairRule
from fcvideo.clips.store import ClipStore
from fcvideo.config import DEFAULT_MODEL, TrainSettings
from fcvideo.errors import OutputError, SettingsError
from fcvideo.evaluation.features import extract, make_features
from fcvideo.jobs.train import train
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig, normalize
from fcvideo.models.store import load_model
from fcvideo.training import moco
from fcvideo.training.loop import Rank
from fcvideo.training.moco import MocoRecipe, MocoStage, Queue, contrast, make_optimizer

SCRIPT = """
import sys
from fcvideo.config import TrainSettings
from fcvideo.jobs.train import train
train(TrainSettings(**eval(sys.argv[1])))
"""


@pytest.fixture
def settings(crops_file: Path, vgg_file: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        data=str(crops_file),
        out=str(tmp_path / "run"),
        model="moco",
        vgg=str(vgg_file),
        gpus=0,
        batch_size=4,
        epochs_stage1=2,
        precision="float32",
        checkpoint_seconds=0,
        progress="none",
    )


def unit(seed: int, *shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def make_stage(tiny_model: Path, **switches: float) -> MocoStage:
    torch.manual_seed(0)
    return MocoStage(load_model(str(tiny_model)), MocoRecipe(**{"queue_size": 32, **switches}))  # type: ignore[arg-type]


def test_the_loss_is_that_of_a_loop() -> None:
    queries, keys, others = unit(0, 5, 7), unit(1, 5, 7), unit(2, 11, 7)
    q, k, n = (x.double().numpy() for x in (queries, keys, others))
    losses, hits = [], 0
    for i in range(5):
        own, rest = float(q[i] @ k[i]) / 0.07, [float(q[i] @ other) / 0.07 for other in n]
        losses.append(-own + np.log(np.exp(own) + sum(np.exp(rest))))
        hits += own > max(rest)
    found = contrast(queries, keys, others, 0.07)
    assert found["contrast"].item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["accuracy"].item() == pytest.approx(hits / 5)
    assert contrast(others, others, queries, 0.01)["accuracy"].item() == 1


def test_the_queue_holds_the_newest_keys_and_wraps() -> None:
    queue, given = Queue(7, 3), [unit(step, 3, 3) for step in range(4)]
    untouched = queue.keys[6].clone()
    for keys in given[:2]:
        queue.put(keys)
    assert torch.equal(queue.keys[6], untouched)
    for keys in given[2:]:
        queue.put(keys)
    assert torch.equal(queue.keys[torch.arange(5, 12) % 7], torch.cat(given)[-7:])
    assert int(queue.position) == 5


def test_the_key_encoder_follows_the_query_encoder(tiny_model: Path) -> None:
    stage = make_stage(tiny_model, key_momentum=0.75)
    leader, follower = stage.model.expression_encoder, stage.extras["key_encoder"]
    views = torch.randn(4, 3, 64, 64)
    stage(views, torch.zeros(4))
    before = [p.clone() for p in follower.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, leader.parameters(), strict=True))
    with torch.no_grad():
        for parameter in leader.parameters():
            parameter += 1
    stage(views, torch.zeros(4))
    for old, new in zip(before, follower.parameters(), strict=True):
        assert torch.allclose(new, old + 0.25, atol=1e-6)


def test_keys_come_from_the_key_encoder_and_wait_in_the_queue(tiny_model: Path) -> None:
    stage = make_stage(tiny_model)
    stage.enable()
    views = torch.randn(6, 3, 64, 64)
    old = stage.extras["queue"].keys.clone()
    found = stage(views, torch.zeros(6))
    with torch.no_grad():
        queries, keys = F.normalize(stage.model.encode_expression(views), dim=1).chunk(2)
    assert found["total"].item() == pytest.approx(contrast(queries, keys, old, 0.07)["total"].item(), rel=1e-5)
    assert torch.allclose(stage.extras["queue"].keys[:3], keys, atol=1e-6)
    found["total"].backward()
    trained = {n.partition(".")[2] for n, p in stage.named_parameters() if p.grad is not None and p.grad.abs().sum()}
    assert {n.split(".")[0] for n in trained} == {"expression_encoder"}


def gradients(stage: nn.Module, views: Tensor) -> dict[str, Tensor]:
    for _ in range(2):  # at the second step the queue holds keys of all ranks
        stage.zero_grad()
        stage(views, torch.zeros(len(views)))["total"].backward()
    return {n.removeprefix("module."): p.grad.clone() for n, p in stage.named_parameters() if p.grad is not None}


def rank_gradients(rank: int, tiny_model: Path, views: Tensor, settings: TrainSettings, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    stage = make_stage(tiny_model)
    stage.enable()
    replica = nn.parallel.DistributedDataParallel(stage, broadcast_buffers=False)
    found = gradients(replica, views.unflatten(0, (2, -1))[:, rank * 2 : rank * 2 + 2].flatten(0, 1))
    if rank == 0:
        torch.save({"gradients": found, "queue": stage.extras["queue"].keys}, folder / "found.pt")
    del replica
    moco.run_rank(settings, ClipStore(settings.data), Path(settings.out), Rank(rank, 2))
    dist.barrier()
    dist.destroy_process_group()


def test_two_ranks_with_half_the_batch_do_as_one(tiny_model: Path, settings: TrainSettings, tmp_path: Path) -> None:
    views = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    mp.spawn(rank_gradients, (tiny_model, views, settings, tmp_path), nprocs=2)
    found = torch.load(tmp_path / "found.pt")
    stage = make_stage(tiny_model)
    stage.enable()
    whole = gradients(stage, views)
    assert torch.allclose(found["queue"], stage.extras["queue"].keys, atol=1e-6)
    assert whole.keys() == found["gradients"].keys()
    largest = max(gradient.abs().max().item() for gradient in whole.values())
    for key, gradient in whole.items():
        atol = 1e-3 * gradient.abs().max().item() + 1e-7 * largest
        assert torch.allclose(gradient, found["gradients"][key], atol=atol), key
    alone = dataclasses.replace(settings, out=str(tmp_path / "alone"))
    moco.run_rank(alone, ClipStore(alone.data), Path(alone.out), Rank())
    one, two = (load_file(Path(s.out) / "model" / "model.safetensors") for s in (alone, settings))
    assert all(torch.allclose(one[key].float(), two[key].float(), atol=1e-3) for key in one)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(settings: TrainSettings, tmp_path: Path) -> None:
    def start(settings: TrainSettings) -> subprocess.Popen[bytes]:
        arguments = repr(dataclasses.asdict(settings))
        return subprocess.Popen([sys.executable, "-c", SCRIPT, arguments], start_new_session=True)

    assert start(settings).wait() == 0
    killed = dataclasses.replace(settings, out=str(tmp_path / "killed"))
    process = start(killed)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoints" / "step-000000003.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model").exists()
    assert start(killed).wait() == 0
    whole, resumed = (load_file(Path(s.out) / "model" / "model.safetensors") for s in (settings, killed))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


class Faces:
    def __len__(self) -> int:
        return 3

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def test_the_loss_falls_even_at_a_large_learning_rate(tiny_model: Path) -> None:
    stage = make_stage(tiny_model, key_momentum=0.99)
    stage.model.init_fan_in()
    stage.extras["key_encoder"].load_state_dict(stage.model.expression_encoder.state_dict())
    optimizer = make_optimizer([{"params": stage.enable()[0], "lr": 0.03}], stage.recipe)
    generator = torch.Generator().manual_seed(0)
    pictures = F.interpolate(torch.randn(32, 3, 8, 8, generator=generator), size=64, mode="bilinear")
    losses = []
    for _ in range(80):
        chosen = pictures[torch.randperm(32, generator=generator)[:8]].repeat(2, 1, 1, 1)
        optimizer.zero_grad()
        found = stage(chosen + 0.1 * torch.randn(chosen.shape, generator=generator), torch.zeros(16))
        found["total"].backward()
        optimizer.step()
        losses.append(found["contrast"].item())
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[5:15])


def test_a_run_leaves_curves_a_card_and_an_encoder_that_evaluate_reads(settings: TrainSettings) -> None:
    settings = dataclasses.replace(settings, checkpoint_seconds=60)
    reports: list[dict[str, float]] = []
    summary = moco.run_rank(settings, ClipStore(settings.data), Path(settings.out), Rank(), reports.append)
    assert (summary["steps_stage1"], summary["steps_stage2"], summary["images"]) == (6, 0, 24)
    assert {"stage", "step", "images_per_second", "contrast", "accuracy", "total"} <= reports[-1].keys()
    folder = Path(settings.out)
    assert list((folder / "curves").glob("events*"))
    assert not (folder / "sheets").exists()
    assert "MoCo" in (folder / "model" / "README.md").read_text()
    assert (folder / "model" / "model.safetensors").stat().st_size < 30 << 20
    config = FaceCycleConfig.preset(DEFAULT_MODEL)
    found = extract(Faces(), make_features(["moco", "moco-map"], None, "cpu", moco=folder / "model"))
    assert found["moco"].shape == (3, config.code_dim)
    assert found["moco-map"].shape == (3, config.map_width * 16)
    state = torch.load(next((folder / "checkpoints").iterdir()), weights_only=True)
    model = FaceCycle(config).eval()
    model.load_state_dict(state["model"])
    with torch.inference_mode():
        images = torch.from_numpy(np.stack([np.asarray(Faces().image(i)) for i in range(3)])).permute(0, 3, 1, 2)
        read = model.encoder_input(normalize(images))
        expected = model.expression_encoder(read), model.expression_encoder.feature_map(read).flatten(1)
    largest = expected[1].abs().max().item()
    np.testing.assert_allclose(found["moco"], expected[0].numpy(), atol=0.02)  # weights in half precision
    np.testing.assert_allclose(found["moco-map"], expected[1].numpy(), atol=0.01 * largest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": "symmetry=0"}, "--losses: found 'symmetry=0', expected none"),
        ({"epochs_stage2": 1.0}, "--epochs-stage2"),
        ({"init": "facecycle-64-small"}, "--init"),
        ({"recipe": "paper"}, "--recipe"),
        ({"batch_size": 131072}, "at most the queue's 65536"),
    ],
)
def test_settings_without_meaning_are_refused(
    settings: TrainSettings, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        train(dataclasses.replace(settings, **changes))  # type: ignore[arg-type]
    assert not (tmp_path / "run" / "model").exists()


def test_a_dry_run_counts_the_steps(settings: TrainSettings, tmp_path: Path) -> None:
    summary = train(dataclasses.replace(settings, batch_size=6, dry_run=True))
    assert (summary["steps_stage1"], summary["steps_stage2"], summary["batch_size"]) == (4, 0, 6)
    assert not (tmp_path / "run").exists()


def test_a_facecycle_run_is_not_gone_on_from(settings: TrainSettings) -> None:
    train(settings)
    with pytest.raises(OutputError, match="belongs to a run with"):
        train(dataclasses.replace(settings, model=None, epochs_stage2=0))


def test_two_views_show_the_same_frame_each_in_its_own_way(crops_file: Path) -> None:
    rule = PairRule(flip_probability=0, augmentation=MocoRecipe().augmentation, same_color=False)
    views = moco.Views(ClipStore(crops_file), rule, 0)
    mirrored = 0
    for epoch in range(20):
        pair = views[epoch, 3]
        assert torch.equal(pair.images[0], pair.images[1])
        assert not torch.equal(pair.affine[0], pair.affine[1])
        assert not torch.equal(pair.color[0], pair.color[1])
        mirrored += int((pair.affine[0, 0, 0] < 0) != (pair.affine[1, 0, 0] < 0))
    assert 4 < mirrored < 16
