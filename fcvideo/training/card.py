"""The model card that every training run leaves beside its weights: facts of the run, to be completed by its owner."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any

import torch

from fcvideo import __version__
from fcvideo.clips.pairs import Store, count_clips
from fcvideo.config import DEFAULT_MODEL, TrainSettings
from fcvideo.models.facecycle import FaceCycle
from fcvideo.training.plan import num_lesson_images
from fcvideo.training.recipes import Recipe


def write_card(
    path: Path, settings: TrainSettings, model: FaceCycle, recipe: Recipe, store: Store, summary: dict[str, Any]
) -> None:
    name = settings.model or DEFAULT_MODEL if settings.init is None else f"FaceCycle, from {Path(settings.init).name}"
    start = f"the model {Path(settings.init).name}" if settings.init else "random weights"
    device = next(model.parameters()).device
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    num_clips = count_clips(store)
    num_frames = int(store.clip_lengths[:num_clips].sum())
    stills = ", ".join(Path(part.strip()).name for part in (settings.stills or "").split(","))
    losses = "\n".join(f"| {name} | {value} |" for name, value in summary["losses"].items())
    path.write_text(f"""# {name}

FaceCycle model ("Learning Facial Representations from the Cycle-consistency of Face", ICCV 2021),
trained by fcvideo {__version__}.

| | |
|---|---|
| data | {Path(settings.data).name}: {num_clips} clips, {num_frames} frames |
| stills | {f"{stills}: {len(store) - num_clips}, {recipe.stills_share:.0%} of each batch" if stills else "none"} |
| recipe | {settings.recipe}{f", losses {settings.losses}" if settings.losses else ""} |
| framing | square of {model.config.framing_side_factor} box heights |
| begun from | {start} |
| lesson | {_lesson(recipe, store, summary)} |
| stage 1 | {summary["steps_stage1"]} steps of {_sizes(recipe, 0)}, learning rate {recipe.stage1.lr} |
| stage 2 | {summary["steps_stage2"]} steps of {_sizes(recipe, 1)}, learning rate {recipe.stage2.lr} |
| augmentation | {_augmentation(recipe)} |
| seed | {settings.seed} |
| hardware | {hardware}, torch {torch.__version__} |
| seconds | {summary["seconds"]} |

Last losses:

| loss | value |
|---|---|
{losses}
""")


def _lesson(recipe: Recipe, store: Store, summary: dict[str, Any]) -> str:
    lesson, num = recipe.lesson, num_lesson_images(recipe.lesson, store)
    if not num or not summary["steps_stage1"]:
        return "none"
    return f"{lesson.num_steps} steps of {lesson.batch_size} of {num} pictures, learning rate {lesson.lr}"


def _sizes(recipe: Recipe, stage: int) -> str:
    num_coded = 2 * recipe.num_pairs(stage)
    others = f" (codes of {num_coded})" if num_coded > recipe.batch_size else ""
    return f"{recipe.batch_size} images{others}"


def _augmentation(recipe: Recipe) -> str:
    values = {k: v for k, v in dataclasses.asdict(recipe.augmentation).items() if v}
    text = ", ".join(f"{name} {value}" for name, value in values.items()) or "none"
    alike = f"; {recipe.common_framing:.0%} of the framing alike in pairs of a clip" if recipe.common_framing else ""
    return text + alike
