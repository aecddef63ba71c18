"""What a run's settings come to: the recipe with their numbers in place of its own, and how many steps that is."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from fcvideo.clips.pairs import Store, count_clips, steps_per_epoch
from fcvideo.config import TrainSettings
from fcvideo.errors import SettingsError
from fcvideo.training.recipes import RECIPES, Recipe, Schedule, override_losses

SomeRecipe = TypeVar("SomeRecipe", bound=Recipe)


def resolve_recipe(settings: TrainSettings) -> Recipe:
    """The named recipe with the settings' own numbers in place of its."""
    if settings.init is not None and (settings.model, settings.side_factor) != (None, None):
        raise SettingsError("--init brings sizes and framing of its own; leave out --model and --side-factor")
    recipe = with_numbers(override_losses(RECIPES[settings.recipe], settings.losses), settings)
    if settings.lesson_steps is not None:
        recipe = dataclasses.replace(recipe, lesson=dataclasses.replace(recipe.lesson, num_steps=settings.lesson_steps))
    return recipe


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
