"""What a run's settings come to: the recipe with their numbers in place of its own, how many steps that is, and the
model to train."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from torch import nn

from fcvideo.clips.pairs import Store, count_clips, steps_per_epoch
from fcvideo.config import DEFAULT_MODEL, TrainSettings
from fcvideo.errors import SettingsError
from fcvideo.faces.yunet import load_yunet
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig
from fcvideo.models.store import load_model
from fcvideo.training.recipes import RECIPES, Lesson, Recipe, Schedule, override_losses

LESSON_DRAWS = 4  # pictures drawn of each face at most

SomeRecipe = TypeVar("SomeRecipe", bound=Recipe)


def resolve_recipe(settings: TrainSettings) -> Recipe:
    """The named recipe with the settings' own numbers in place of its."""
    if settings.init is not None and (settings.model, settings.side_factor) != (None, None):
        raise SettingsError("--init brings sizes and framing of its own; leave out --model and --side-factor")
    if settings.renew_expression and settings.init is None:
        raise SettingsError(
            "--renew-expression: found no --init, expected the model whose expression encoder is renewed"
        )
    recipe = with_numbers(override_losses(RECIPES[settings.recipe], settings.losses), settings)
    lesson_steps = settings.lesson_steps
    if lesson_steps is None:
        is_new = settings.init is None or settings.renew_expression
        lesson_steps = recipe.lesson.num_steps if is_new else 0
    return dataclasses.replace(recipe, lesson=dataclasses.replace(recipe.lesson, num_steps=lesson_steps))


def with_numbers(recipe: SomeRecipe, settings: TrainSettings) -> SomeRecipe:
    for name in ("stage1", "stage2"):
        schedule: Schedule = getattr(recipe, name)
        epochs, lr = getattr(settings, f"epochs_{name}"), getattr(settings, f"lr_{name}")
        if epochs is not None:
            schedule = dataclasses.replace(schedule, epochs=epochs, min_steps=0)
        if lr is not None:
            schedule = dataclasses.replace(schedule, lr=lr)
        changed: dict[str, Any] = {name: schedule}
        recipe = dataclasses.replace(recipe, **changed)
    shares = {"batch_size": settings.batch_size, "stills_share": settings.stills_share}
    return dataclasses.replace(recipe, **{name: value for name, value in shares.items() if value is not None})  # type: ignore[arg-type]


def num_stills(store: Store) -> int:
    return len(store) - count_clips(store)


def count_steps(recipe: Recipe, store: Store) -> tuple[int, int]:
    """Steps of both stages. In an epoch as many pairs of clips are drawn as there are clips."""
    found = []
    for number, schedule in enumerate((recipe.stage1, recipe.stage2)):
        stills = recipe.num_stills(number) if num_stills(store) else 0
        drawn = max(1, (recipe.num_pairs(number) - stills) // schedule.code_batches)
        found.append(schedule.num_steps(steps_per_epoch(count_clips(store), drawn)))
    return found[0], found[1]


def num_lesson_images(lesson: Lesson, store: Store) -> int:
    """Augmented pictures that the lesson is learned from; of few faces, few."""
    return min(lesson.num_images, LESSON_DRAWS * int(store.clip_lengths.sum())) if lesson.num_steps else 0


def make_model(settings: TrainSettings, recipe: Recipe) -> tuple[FaceCycle, nn.Module | None]:
    """The model to train, and the expression encoder whose flows it has learned to make, if any."""
    known = None
    if settings.init is None:
        config = FaceCycleConfig.preset(settings.model or DEFAULT_MODEL)
        if settings.side_factor is not None:
            config = dataclasses.replace(config, framing_side_factor=settings.side_factor)
        model = FaceCycle(config)
        if recipe.initialization == "fan_in":
            model.init_fan_in()
    else:
        model = load_model(settings.init)
        known = model.expression_encoder
        if settings.renew_expression:
            model = _renew_expression(model)
    if model.detector is not None:
        model.detector.load(load_yunet())
    return model, known


def _renew_expression(trained: FaceCycle) -> FaceCycle:
    """The same model, whose E_exp is new and reads the detector."""
    if trained.config.encoders_read == "pixels":
        raise SettingsError("--renew-expression: found a model whose encoders read pixels, expected the stem's conv4_1")
    kept = {name: v for name, v in trained.state_dict().items() if not name.startswith("expression_encoder.")}
    model = FaceCycle(dataclasses.replace(trained.config, reads_detector=True))
    model.init_fan_in()
    model.load_state_dict(kept, strict=False)
    return model
