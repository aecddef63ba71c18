import dataclasses
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig
from fcvideo.models.store import load_model
from fcvideo.models.vgg import VGG19, load_vgg
from fcvideo.training.landmarks import NUM_LANDMARKS
from fcvideo.training.recipes import RECIPES, ExpressionWeights, IdentityWeights
from fcvideo.training.stages import AverageFace, ExpressionStage, IdentityStage, Stage, partners, swap_pairs

WEIGHTS = {
    f"{name} {part}": getattr(recipe, part) for name, recipe in RECIPES.items() for part in ("expression", "identity")
}


def make_stage(weights: ExpressionWeights | IdentityWeights, vgg_file: Path, tiny_model: Path) -> Stage:
    model, vgg = load_model(str(tiny_model)), VGG19("conv4_1")
    for network in (model.stem, vgg):
        network.load(load_vgg(vgg_file))
    if isinstance(weights, ExpressionWeights):
        return ExpressionStage(model, vgg, weights)
    return IdentityStage(model, vgg, weights)


def persons_of(images: Tensor) -> Tensor:
    """Both pictures of a pair show one person; every pair another."""
    return torch.arange(len(images) // 2).repeat(2)


def gradients(stage: nn.Module, images: Tensor) -> dict[str, Tensor]:
    stage(images, persons_of(images))["total"].backward()
    return {n.removeprefix("module."): p.grad.clone() for n, p in stage.named_parameters() if p.grad is not None}


def rank_gradients(
    rank: int,
    weights: ExpressionWeights | IdentityWeights,
    vgg_file: Path,
    tiny_model: Path,
    images: Tensor,
    folder: Path,
) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    stage = make_stage(weights, vgg_file, tiny_model)
    stage.enable()
    replica = nn.parallel.DistributedDataParallel(stage)
    pairs = images.unflatten(0, (2, -1))  # (2, B, 3, S, S)
    own = pairs[:, rank * 2 : rank * 2 + 2].flatten(0, 1)
    found = gradients(replica, own)
    if rank == 0:
        torch.save(found, folder / "gradients.pt")
    del replica
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("name", ["released expression", "paper identity", "released identity"])
def test_two_ranks_with_half_the_batch_give_the_gradients_of_one(
    name: str, vgg_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    mp.spawn(rank_gradients, (WEIGHTS[name], vgg_file, tiny_model, images, tmp_path), nprocs=2)
    stage = make_stage(WEIGHTS[name], vgg_file, tiny_model)
    stage.enable()
    whole, halves = gradients(stage, images), torch.load(tmp_path / "gradients.pt")
    assert whole.keys() == halves.keys()
    largest = max(gradient.abs().max().item() for gradient in whole.values())
    for key, gradient in whole.items():  # some are zero but for rounding: a softmax does not see its bias
        atol = 1e-3 * gradient.abs().max().item() + 1e-7 * largest
        assert torch.allclose(gradient, halves[key], atol=atol), key


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_loss_of_a_recipe_is_there_and_reaches_every_network_of_its_stage(
    name: str, vgg_file: Path, tiny_model: Path
) -> None:
    stage = make_stage(WEIGHTS[name], vgg_file, tiny_model)
    encoders, decoder = stage.enable()
    parameters = [*encoders, *decoder]
    images = torch.randn(4, 3, 64, 64)
    found = stage(images, persons_of(images), torch.rand(4, NUM_LANDMARKS, 2) - 0.5)
    found["total"].backward()
    weighted = {
        f.name for f in dataclasses.fields(WEIGHTS[name]) if f.type == "float" and getattr(WEIGHTS[name], f.name)
    }
    assert found.keys() == weighted | {"total"}
    expected = sum(getattr(WEIGHTS[name], loss) * found[loss] for loss in weighted)
    assert found["total"].item() == pytest.approx(expected.item(), rel=1e-5)
    reached = [p for p in parameters if p.grad is not None and p.grad.abs().sum() > 0]
    # the in-painting of a noiseless net is reached too; a plain pass alone would not reach it
    assert len(reached) > 0.95 * len(parameters)
    frozen = [n for n, p in stage.named_parameters() if not p.requires_grad and p.grad is not None]
    assert frozen == []


def test_the_losses_are_of_the_pictures_that_the_paper_names(vgg_file: Path, tiny_model: Path) -> None:
    """Equations 4 and 8 with the pair swapped, spelt out."""
    stage = make_stage(ExpressionWeights(rebuilt=1, flow=1), vgg_file, tiny_model).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = stage(images, persons_of(images))
        model = stage.model
        neutral, flows = [], []
        for image in images.split(1):
            forward, backward = model.flows(model.expression_encoder(image))
            neutral.append(model.neutral_face(image, forward))
            flows.append(backward)
        rebuilt = torch.cat([model.re_express(neutral[1], flows[0]), model.re_express(neutral[0], flows[1])])
    assert found["rebuilt"].item() == pytest.approx((rebuilt - images).abs().mean().item(), rel=1e-4)


def test_pairs_are_swapped_and_partners_are_of_other_clips() -> None:
    images = torch.arange(8)
    assert swap_pairs(images).tolist() == [4, 5, 6, 7, 0, 1, 2, 3]
    assert partners(8).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert all(i % 3 != j % 3 for i, j in enumerate(partners(6).tolist()))


def test_pictures_are_drawn_of_the_first_pairs_and_codes_judged_of_all(vgg_file: Path, tiny_model: Path) -> None:
    images = torch.randn(8, 3, 64, 64)
    stage = make_stage(ExpressionWeights(rebuilt=1, told_features=1), vgg_file, tiny_model).eval()
    with torch.no_grad():
        whole = stage(images, persons_of(images))
        stage.code_batches = 2
        half = stage(images, persons_of(images))
        stage.code_batches = 1
        first = stage(images[[0, 1, 4, 5]], persons_of(images[:4]))
    assert half["told_features"] == whole["told_features"] != first["told_features"]
    assert half["rebuilt"].item() == pytest.approx(first["rebuilt"].item(), rel=1e-5)


def test_the_average_face_is_that_of_all_neutral_faces_seen() -> None:
    average = AverageFace(4)
    for brightness in (1.0, 1.0, 4.0):
        found = average(torch.full((2, 3, 4, 4), brightness))
    assert found.shape == (1, 3, 4, 4)
    assert 1.9 < found.mean() < 2.1  # the last counts a little more than the first


@pytest.mark.parametrize(("reads", "detector"), [("pixels", False), ("conv4_1", False), ("conv4_1", True)])
def test_codes_of_a_model_that_shares_the_stem_are_those_of_one_that_does_not(
    reads: str, detector: bool, vgg_file: Path
) -> None:
    sizes = FaceCycleConfig(encoder_widths=(8, 8, 8), decoder_width=8, up_width=8)
    model = FaceCycle(dataclasses.replace(sizes, encoders_read=reads, reads_detector=detector))
    model.stem.load(load_vgg(vgg_file))
    vgg = VGG19("conv4_1")
    vgg.load(load_vgg(vgg_file))
    stage, images = ExpressionStage(model, vgg, ExpressionWeights(rebuilt=1)), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(stage.encode(images, stage.look(images)), model.encode_expression(images), atol=1e-5)
