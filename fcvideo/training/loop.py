"""The loop of one rank: both stages in a row, with checkpoints, curves and picture sheets.

Every batch is a function of (seed, step), so that a run that was killed and started again ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fcvideo.atomic import full_disk_told
from fcvideo.clips import augment
from fcvideo.clips.pairs import ClipPairs, Pair, PairRule, PairSampler, Store, another_view
from fcvideo.config import PUBLISHED_SIDE_FACTOR, TrainSettings
from fcvideo.errors import SettingsError, TrainingError
from fcvideo.models.encoder import StemEncoder
from fcvideo.models.facecycle import normalize_unit
from fcvideo.models.precision import has_fast_bfloat16
from fcvideo.models.store import save_model
from fcvideo.models.vgg import VGG19, load_vgg
from fcvideo.training import beginning
from fcvideo.training.averaging import WeightAverage
from fcvideo.training.beginning import Views
from fcvideo.training.card import write_card
from fcvideo.training.checkpoint import load_checkpoint, save_checkpoint
from fcvideo.training.curves import Curves
from fcvideo.training.landmarks import LandmarkFinder, follow
from fcvideo.training.lesson import teach
from fcvideo.training.plan import count_steps, make_model, num_lesson_images, num_stills, resolve_recipe
from fcvideo.training.recipes import Recipe, Schedule
from fcvideo.training.replicas import average_numbers, check_agreement, of_first
from fcvideo.training.stages import PERCEPTUAL_DEPTH, ExpressionStage, IdentityStage, Stage

COMPONENT_IMAGES = 6000  # whose features the components are taken from
LESSON_VIEWS = 2  # whose landmarks are averaged for the lesson
FIRST_PICTURES, LESSON = -1, 0  # what comes before stage 1, in reports
REPORT_IMAGES = 500
REPORT_STEPS = 20  # every rank reports at the same steps: a report may be a meeting of all ranks

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Rank:
    rank: int = 0
    world_size: int = 1
    device: str = "cpu"


def run_rank(
    settings: TrainSettings, store: Store, folder: Path, rank: Rank, on_report: Report | None = None
) -> dict[str, Any]:
    """Trains stage 1, then stage 2, from the newest checkpoint of `folder` on; rank 0 writes FOLDER/model.

    `torch.distributed` must be initialized where `rank.world_size` > 1. Returns a summary: steps, images, seconds,
    last losses. Errors: SettingsError, OutputError (checkpoints of another run), ModelError, TrainingError.
    """
    return Run(settings, resolve_recipe(settings), store, folder, rank, on_report).complete()


class Run:
    """One rank's state: what a checkpoint holds, and what is made from the settings."""

    least_pairs = 2  # to a rank: a pair is set against another one

    def __init__(
        self,
        settings: TrainSettings,
        recipe: Recipe,
        store: Store,
        folder: Path,
        rank: Rank,
        on_report: Report | None = None,
    ) -> None:
        self.settings, self.store, self.folder, self.rank = settings, store, folder, rank
        self.on_report = on_report or (lambda _: None)
        self.device = torch.device(rank.device)
        self.recipe = recipe
        unit = 2 * rank.world_size
        if recipe.batch_size % unit or recipe.batch_size < unit * self.least_pairs:
            raise SettingsError(
                f"batch_size: found {recipe.batch_size}, expected a multiple of {unit}, at least "
                f"{unit * self.least_pairs} (pairs, {self.least_pairs} or more to each of {rank.world_size} workers)"
            )
        self.autocast = _autocast_type(settings.precision, self.device)
        torch.manual_seed(settings.seed)
        self.model, self.known_encoder = make_model(settings, recipe)
        weights = load_vgg(settings.vgg)
        self.model.stem.load(weights)
        self.stages = self._make_stages(weights)
        for stage in self.stages:
            stage.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.known_encoder is not None:
            self.known_encoder.to(self.device)
        if any(stage.reads_landmarks for stage in self.stages):
            self.finder = LandmarkFinder().to(self.device)
        self.schedules = (recipe.stage1, recipe.stage2)
        self.num_steps = count_steps(recipe, store)
        self.average = WeightAverage(self.model, recipe.average_decay)
        self.curves = Curves(folder if rank.rank == 0 else None, settings.picture_steps)
        self.position: tuple[int, int] | None = self._next_position(0, 0)  # (stage, step in it)
        self.optimizer_state: dict[str, Any] | None = None
        self.seconds, self.last_losses = 0.0, dict[str, float]()

    def complete(self) -> dict[str, Any]:
        with full_disk_told(self.folder):  # for curves, sheets and cards too
            self.restore()
            while self.position is not None:
                self.train_stage(*self.position)
            return self.finish()

    def _make_stages(self, vgg_weights: dict[str, Tensor]) -> tuple[Stage, ...]:
        vgg, recipe = VGG19(PERCEPTUAL_DEPTH), self.recipe
        vgg.load(vgg_weights)
        return (
            ExpressionStage(self.model, vgg, recipe.expression, recipe.stage1.code_batches),
            IdentityStage(self.model, vgg, recipe.identity, recipe.stage2.code_batches),
        )

    def _make_pairs(self, number: int) -> ClipPairs:
        return ClipPairs(self.store, self._pair_rule(number), self.settings.seed)

    def _make_optimizer(self, groups: list[dict[str, Any]], schedule: Schedule) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, betas=schedule.betas)

    def _pair_rule(self, number: int) -> PairRule:
        config = self.model.config
        is_across = number == 1 and self.recipe.across_clips
        metadata = getattr(self.store, "metadata", {})
        return PairRule(
            flip_probability=self.recipe.flip_probability,
            augmentation=self.recipe.augmentation,
            stored_side_px=config.image_side * 3 // 2,
            side_factor=config.framing_side_factor,
            stored_side_factor=metadata.get("framing", {}).get("side_factor", PUBLISHED_SIDE_FACTOR),
            center=config.framing_center,
            across_clips=is_across,
            same_color=not is_across,
            common_framing=0.0 if is_across else self.recipe.common_framing,
        )

    def _next_position(self, stage: int, step: int) -> tuple[int, int] | None:
        while stage < 2 and step >= self.num_steps[stage]:
            stage, step = stage + 1, 0
        return (stage, step) if stage < 2 else None

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with to go on from it."""
        return {
            "model": dataclasses.asdict(self.model.config),
            "recipe": dataclasses.asdict(self.recipe),
            "seed": self.settings.seed,
            "data": [len(self.store), int(self.store.clip_lengths.sum()), num_stills(self.store)],
            "init": self.settings.init,
            "renew_expression": self.settings.renew_expression,
        }

    def restore(self) -> None:
        """From the newest checkpoint that the first rank finds, whatever the others see."""
        state = of_first(lambda: load_checkpoint(self.folder / "checkpoints", self.identity), self.device)
        if state is None:
            self._begin()
            self.average = WeightAverage(self.model, self.recipe.average_decay)
            return
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for stage, extras in zip(self.stages, state["extras"], strict=True):
            stage.extras.load_state_dict(extras)
        self.position = tuple(state["position"]) if state["position"] else None
        self.optimizer_state = state["optimizer"]
        self.seconds, self.last_losses = state["seconds"], state["losses"]

    def _begin(self) -> None:
        """Encoders above the stem begin at what features of the first pictures show, and learn the recipe's lesson."""
        stage, plan, has_stage1 = self.stages[0], self.recipe.lesson, self.num_steps[0] > 0
        assert isinstance(stage, ExpressionStage)
        is_fresh = not self.settings.init and self.recipe.initialization == "fan_in"
        encoders = [self.model.expression_encoder] if is_fresh or self.settings.renew_expression else []
        encoders += [self.model.identity_encoder] if is_fresh else []
        starts = [encoder for encoder in encoders if isinstance(encoder, StemEncoder)]
        tells = has_stage1 and len(stage.extras) > 0
        if not starts and not tells:
            return
        least = num_lesson_images(plan, self.store) if tells else 0
        num_images = max(least, min(COMPONENT_IMAGES, int(self.store.clip_lengths.sum())))
        views, report = self._first_views(stage), self._first_pictures_report(num_images)
        examples, twins = beginning.collect(stage, views, num_images, self.known_encoder, report, self._precision)
        self.known_encoder = None
        beginning.begin(stage, examples, twins, starts)
        if tells:
            beginning.begin_telling(stage, examples)
            teach(stage, examples, plan, self.settings.seed, self._precision, self._report_lesson)

    def _first_pictures_report(self, num_images: int) -> Callable[[int], None]:
        reported = 0

        def report(num: int) -> None:
            nonlocal reported
            if num - reported >= REPORT_IMAGES or num >= num_images:
                reported = num
                self.on_report({"stage": FIRST_PICTURES, "step": min(num, num_images), "num_steps": num_images})

        return report

    def _report_lesson(self, step: int, found: dict[str, float]) -> None:
        num_steps = self.recipe.lesson.num_steps
        if step % REPORT_STEPS == 0 or step == num_steps:
            self.on_report({"stage": LESSON, "step": step, "num_steps": num_steps, **found})

    def _first_views(self, stage: ExpressionStage) -> Iterator[Views]:
        """Stage 1's first pictures, each beside another view of it, and their landmarks where those are asked for."""
        for step, pair in enumerate(self._batches(0, 0)):
            found = None
            if stage.tells_landmarks:  # kept for a whole lesson, so that one view's errors would be learned by heart
                views = [self._landmarks(pair, 0, LESSON_VIEWS * step + view) for view in range(LESSON_VIEWS)]
                found = torch.stack(views).mean(dim=0)
            rng = np.random.default_rng([self.settings.seed, step])
            yield Views(self._images(pair), self._images(another_view(pair, self.recipe.augmentation, rng)), found)

    def train_stage(self, number: int, first_step: int) -> None:
        check_agreement(f"{self.folder}: stage and step to go on from", (number, first_step))
        stage, schedule, num_steps = self.stages[number], self.schedules[number], self.num_steps[number]
        self.model.train()
        encoders, decoder = stage.enable()
        peaks = (schedule.lr, schedule.lr * schedule.decoder_lr_factor)
        groups = [{"params": encoders, "lr": peaks[0]}, {"params": decoder, "lr": peaks[1]}]
        optimizer = self._make_optimizer(groups, schedule)
        if self.optimizer_state is not None:
            optimizer.load_state_dict(self.optimizer_state)
            self.optimizer_state = None
        replica = self._replicate(stage)
        batches = self._batches(number, first_step)
        sums: dict[str, Tensor] = {}
        since = saved = time.monotonic()
        for step in range(first_step, num_steps):
            pair = next(batches)
            torch.manual_seed(_mix(self.settings.seed, number, step, self.rank.rank))  # of the in-painting noise
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * schedule.factor(step, num_steps)
            images = self._images(pair)
            persons = pair.person.to(self.device, non_blocking=True).transpose(0, 1).flatten()
            landmarks = self._landmarks(pair, number, step) if stage.reads_landmarks else None
            found = self._step(replica, optimizer, images, persons, landmarks)
            self.average.update()
            for name, value in found.items():
                sums[name] = sums[name] + value if name in sums else value
            done = step + 1
            if done % REPORT_STEPS == 0 or done == num_steps:
                elapsed = time.monotonic() - since
                since += elapsed
                self._report(number, done, sums, elapsed, optimizer.param_groups[0]["lr"])
                sums = {}
            if self.rank.rank == 0:
                self.curves.draw(self.model, images, number, done)
            due = time.monotonic() - saved > self.settings.checkpoint_seconds
            if done == num_steps or due:
                self._save(self._next_position(number, done), optimizer if done < num_steps else None)
                saved = time.monotonic()
        self.position = self._next_position(number, num_steps)

    def _replicate(self, stage: Stage) -> nn.Module:
        if self.rank.world_size == 1:
            return stage
        devices = [self.device.index or 0] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(stage, device_ids=devices)

    def _batches(self, number: int, first_step: int) -> Iterator[Pair]:
        sampler = PairSampler(
            self.store,
            self.recipe.num_pairs(number),
            _mix(self.settings.seed, number),
            first_step,
            self.rank.rank,
            self.rank.world_size,
            self.recipe.num_stills(number) if num_stills(self.store) else 0,
        )
        loader = DataLoader(
            self._make_pairs(number),
            batch_sampler=sampler,
            num_workers=self.settings.loaders,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="spawn" if self.settings.loaders else None,
        )
        return iter(loader)

    def _images(self, pair: Pair) -> Tensor:
        """Augmented, normalized pictures (2B, 3, S, S): first of each pair, then the second."""
        stored, affine, color = self._halves(pair.images, pair.affine, pair.color)
        images = normalize_unit(augment.apply(stored, affine, color, self.model.config.image_side))
        return images.contiguous(memory_format=torch.channels_last)

    def _landmarks(self, pair: Pair, number: int, step: int) -> Tensor:
        """Landmarks (2B, K, 2) of the pictures of `_images`; NaN where no face is found."""
        stored, affine = self._halves(pair.images, pair.affine)
        views = torch.Generator().manual_seed(_mix(self.settings.seed, number, step, self.rank.rank))
        with self._precision():
            return follow(self.finder(stored, views), affine)

    def _halves(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Each of (B, 2, ..) to (2B, ..) on the device: first of each pair, then the second."""
        return tuple(t.to(self.device, non_blocking=True).transpose(0, 1).flatten(0, 1) for t in tensors)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None)

    def _step(
        self,
        replica: nn.Module,
        optimizer: torch.optim.Optimizer,
        images: Tensor,
        persons: Tensor,
        landmarks: Tensor | None,
    ) -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with self._precision():
            found: dict[str, Tensor] = replica(images, persons, landmarks)
        found["total"].backward()
        optimizer.step()
        return {name: value.detach() for name, value in found.items()}

    def _report(self, number: int, done: int, sums: dict[str, Tensor], elapsed: float, lr: float) -> None:
        num_summed = (done - 1) % REPORT_STEPS + 1
        losses = {name: float(value) / num_summed for name, value in sums.items()}
        losses = average_numbers(losses, self.device)
        if not all(abs(value) < float("inf") for value in losses.values()):
            raise TrainingError(f"stage {number + 1}, step {done}: a loss is not finite ({losses})")
        self.seconds += elapsed
        self.last_losses = losses
        progress = {
            "stage": number + 1,
            "step": done,
            "num_steps": self.num_steps[number],
            "images_per_second": num_summed * self.recipe.batch_size / elapsed,
            "lr": lr,
        }
        self.curves.write(number, done, losses | {k: progress[k] for k in ("images_per_second", "lr")})
        self.on_report(progress | losses)

    def _save(self, position: tuple[int, int] | None, optimizer: torch.optim.Optimizer | None) -> None:
        """Every rank holds the same weights, so rank 0 alone writes. Errors: as `save_checkpoint`."""
        if self.rank.rank:
            return
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "extras": [stage.extras.state_dict() for stage in self.stages],
            "optimizer": optimizer.state_dict() if optimizer else None,
            "position": list(position) if position else None,
            "seconds": self.seconds,
            "losses": self.last_losses,
        }
        total = sum(self.num_steps)
        step = total if position is None else sum(self.num_steps[: position[0]]) + position[1]
        save_checkpoint(self.folder / "checkpoints", step, state)

    def finish(self) -> dict[str, Any]:
        summary = {
            "steps_stage1": self.num_steps[0],
            "steps_stage2": self.num_steps[1],
            "images": sum(self.num_steps) * self.recipe.batch_size,
            "seconds": round(self.seconds, 1),
            "losses": {name: round(value, 5) for name, value in self.last_losses.items()},
        }
        if self.rank.rank == 0:
            with self.average.applied():
                self._write_model(self.folder / "model", summary)
        self.curves.close()
        return summary

    def _write_model(self, folder: Path, summary: dict[str, Any]) -> None:
        save_model(self.model, folder)
        write_card(folder / "README.md", self.settings, self.model, self.recipe, self.store, summary)


def _autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    if precision == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else None
    return torch.bfloat16 if precision == "bfloat16" else None


def _mix(*numbers: int) -> int:
    """One seed from several numbers."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % (1 << 62)
    return seed
