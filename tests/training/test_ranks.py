"""Two real gloo ranks with half the batch each, against one rank with the whole, by the default recipe."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from fcvideo.atomic import full_disk_told
from fcvideo.clips.pairs import PairSampler
from fcvideo.errors import OutputError, TrainingError
from fcvideo.models.store import load_model
from fcvideo.models.vgg import VGG19, load_vgg
from fcvideo.training.checkpoint import save_checkpoint
from fcvideo.training.landmarks import NUM_LANDMARKS
from fcvideo.training.recipes import DEFAULT
from fcvideo.training.replicas import check_agreement, of_first
from fcvideo.training.stages import PERCEPTUAL_DEPTH, ExpressionStage, IdentityStage, Stage

CODE_BATCHES, NUM_PAIRS = 2, 8


class Clips:
    """As many clips as a batch has pairs."""

    clip_lengths = np.ones(NUM_PAIRS, dtype=np.int64)

    def __len__(self) -> int:
        return NUM_PAIRS

    def row_group(self, clip: int) -> int:
        return clip


def make_stage(part: str, vgg_file: Path, tiny_model: Path) -> Stage:
    model, vgg = load_model(str(tiny_model)), VGG19(PERCEPTUAL_DEPTH)
    for network in (model.stem, vgg):
        network.load(load_vgg(vgg_file))
    torch.manual_seed(0)
    if part == "expression":
        return ExpressionStage(model, vgg, DEFAULT.expression, CODE_BATCHES)
    return IdentityStage(model, vgg, DEFAULT.identity, CODE_BATCHES)


def gradients(stage: Stage, replica: nn.Module, rank: int, world_size: int) -> dict[str, Tensor]:
    """Of the pairs that a rank's sampler draws; clip n has picture n twice, in two colors, of person n // 3."""
    random = torch.Generator().manual_seed(1)
    pictures = torch.randn(NUM_PAIRS, 2, 3, 64, 64, generator=random)
    landmarks = torch.rand(NUM_PAIRS, 2, NUM_LANDMARKS, 2, generator=random) - 0.5
    drawn = next(iter(PairSampler(Clips(), NUM_PAIRS, 0, 0, rank, world_size)))  # type: ignore[arg-type]
    clips = torch.tensor([clip for _, clip in drawn])
    halves = [x[clips].transpose(0, 1).flatten(0, 1) for x in (pictures, landmarks)]
    replica(halves[0], (clips // 3).repeat(2), halves[1])["total"].backward()
    return {name: p.grad.clone() for name, p in stage.named_parameters() if p.grad is not None}


def train_rank(rank: int, part: str, vgg_file: Path, tiny_model: Path, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    stage = make_stage(part, vgg_file, tiny_model)
    stage.enable()
    found = gradients(stage, nn.parallel.DistributedDataParallel(stage), rank, 2)
    if rank == 0:
        torch.save(found, folder / "gradients.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("part", ["expression", "identity"])
def test_two_ranks_of_the_default_recipe_give_the_gradients_of_one(
    part: str, vgg_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    mp.spawn(train_rank, (part, vgg_file, tiny_model, tmp_path), nprocs=2)
    stage = make_stage(part, vgg_file, tiny_model)
    stage.enable()
    whole, halves = gradients(stage, stage, 0, 1), torch.load(tmp_path / "gradients.pt")
    assert whole.keys() == halves.keys()
    largest = max(gradient.abs().max().item() for gradient in whole.values())
    for name, gradient in whole.items():
        atol = 1e-3 * gradient.abs().max().item() + 1e-7 * largest
        assert torch.allclose(gradient, halves[name], atol=atol), name


def agree(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)

    def fail() -> None:
        raise TrainingError("the first rank's own")

    told = []
    for call in (lambda: check_agreement("step", 6 + 2 * rank), lambda: of_first(fail, torch.device("cpu"))):
        with pytest.raises(TrainingError) as error:
            call()
        told.append(str(error.value))
    (folder / f"{rank}.txt").write_text("\n".join(told))
    dist.destroy_process_group()


def test_what_ranks_do_not_agree_on_and_the_first_ones_error_are_told_on_all(tmp_path: Path) -> None:
    mp.spawn(agree, (tmp_path,), nprocs=2)
    texts = [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
    assert texts[0] == texts[1]
    assert texts[0].startswith("step: ranks do not agree ([6, 8])")
    assert texts[0].endswith("the first rank's own")


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_checkpoint_holds_finite_numbers_only(tmp_path: Path, odd: float) -> None:
    state = {"model": {"a": torch.ones(2)}, "optimizer": {"state": {0: {"exp_avg": torch.tensor([1.0, odd])}}}}
    with pytest.raises(TrainingError, match=r"step 3: optimizer\.state\.0\.exp_avg is not finite"):
        save_checkpoint(tmp_path / "checkpoints", 3, state)
    assert not list(tmp_path.rglob("*.pt"))


def test_a_disk_that_is_full_for_curves_or_sheets_is_told_in_one_line(tmp_path: Path) -> None:
    told = pytest.raises(OutputError, match=r"run: cannot be written \(No space left on device\)")
    with told, full_disk_told(tmp_path / "run"), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"curve")
