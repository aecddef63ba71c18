import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fcvideo.models.store import load_model
from fcvideo.models.vgg import VGG19, load_vgg
from fcvideo.training.beginning import Views, begin_telling, collect
from fcvideo.training.landmarks import NUM_LANDMARKS
from fcvideo.training.lesson import teach
from fcvideo.training.recipes import ExpressionWeights, Lesson
from fcvideo.training.stages import ExpressionStage

PLAN = Lesson(num_steps=40, num_images=48, batch_size=16, lr=1e-3)


@pytest.fixture
def stage(vgg_file: Path, tiny_model: Path) -> ExpressionStage:
    vgg = VGG19("conv4_1")
    model = load_model(str(tiny_model))
    for network in (model.stem, vgg):
        network.load(load_vgg(vgg_file))
    return ExpressionStage(model, vgg, ExpressionWeights(told_landmarks=1))


def bright_spots() -> Iterator[Views]:
    """Pictures of a spot of changing place, and landmarks around it; every third has none."""
    generator = torch.Generator().manual_seed(0)
    around = 0.2 * torch.randn(NUM_LANDMARKS, 2, generator=generator)
    place = torch.linspace(-1, 1, 64)
    while True:
        center = torch.rand(12, 2, generator=generator) - 0.5
        x, y = (place[None] - center[:, :1]) ** 2, (place[None] - center[:, 1:]) ** 2
        spots = torch.exp(-8 * (x[:, None, :] + y[:, :, None]))[:, None].expand(-1, 3, -1, -1)
        landmarks = center[:, None] + around
        landmarks[::3] = torch.nan
        yield Views(4 * spots - 2, 4 * spots - 2, landmarks)


def test_codes_learn_to_tell_landmarks_and_nothing_else_changes(stage: ExpressionStage) -> None:
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    examples, _ = collect(stage, bright_spots(), PLAN.num_images)
    begin_telling(stage, examples)
    totals: list[float] = []
    teach(stage, examples, PLAN, 0, contextlib.nullcontext, lambda _, found: totals.append(found["total"]))
    assert len(totals) == PLAN.num_steps
    assert sum(totals[-5:]) < 0.8 * sum(totals[:5])
    changed = {name.split(".")[0] for name, value in stage.model.state_dict().items() if not value.equal(before[name])}
    assert changed == {"expression_encoder"}


def test_flows_are_kept_while_codes_change(stage: ExpressionStage) -> None:
    examples, _ = collect(stage, bright_spots(), PLAN.num_images, stage.model.expression_encoder)
    assert examples.flows is not None
    begin_telling(stage, examples)
    errors: list[float] = []
    plan = dataclasses.replace(PLAN, lr=3e-4)
    teach(stage, examples, plan, 0, contextlib.nullcontext, lambda _, found: errors.append(found["kept_flows"]))
    assert errors[0] < 1e-3  # half precision
    with torch.no_grad():
        codes = stage.model.expression_encoder(examples.read.float())
        found, without = stage.model.flows(codes)[0], examples.flows.float().mean(dim=0)
    kept = (found - examples.flows).square().mean()
    assert kept < (without - examples.flows).square().mean()  # better than the mean flow of all


def test_a_lesson_is_a_function_of_its_seed(vgg_file: Path, tiny_model: Path, stage: ExpressionStage) -> None:
    examples, _ = collect(stage, bright_spots(), PLAN.num_images)
    start = {name: value.clone() for name, value in stage.state_dict().items()}
    ends = []
    for seed in (0, 0, 1):
        stage.load_state_dict(start)
        teach(stage, examples, Lesson(num_steps=3, batch_size=8), seed, contextlib.nullcontext)
        ends.append([value.clone() for value in stage.model.expression_encoder.parameters()])
    assert all(map(torch.equal, ends[0], ends[1]))
    assert not all(map(torch.equal, ends[0], ends[2]))


def test_as_many_examples_are_collected_as_the_lesson_wants(stage: ExpressionStage) -> None:
    examples, twins = collect(stage, bright_spots(), 30)
    assert len(examples) == len(twins) == 36  # whole batches
    first = torch.cat([views.landmarks for views in itertools.islice(bright_spots(), 3)])
    assert torch.equal(examples.landmarks.isnan(), first.isnan())
