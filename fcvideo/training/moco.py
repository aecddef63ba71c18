"""MoCo, the paper's strongest baseline: the same encoder, clips and loop, trained by contrast instead of FaceCycle.

He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning", with its first version's settings.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcvideo import __version__
from fcvideo.clips.augment import Augmentation
from fcvideo.clips.pairs import ClipPairs, Store
from fcvideo.config import TrainSettings
from fcvideo.errors import SettingsError
from fcvideo.models.facecycle import FaceCycle
from fcvideo.models.store import save_model
from fcvideo.training.loop import Rank, Report, Run
from fcvideo.training.plan import with_numbers
from fcvideo.training.recipes import ExpressionWeights, IdentityWeights, Recipe, Schedule
from fcvideo.training.replicas import gather_over_replicas
from fcvideo.training.stages import Losses, Stage

NAME = "moco"  # in place of a preset's
SAVED = ("stem.", "detector.", "expression_encoder.")  # of the model's weights: one encoder and what it reads
WITHOUT_MEANING = (
    "init",
    "recipe",
    "losses",
    "lesson_steps",
    "renew_expression",
    "epochs_stage2",
    "lr_stage2",
    "picture_steps",
)


@dataclass(frozen=True)
class MocoRecipe(Recipe):
    """MoCo's switches. Its one stage stands in the place of stage 1, and no loss of FaceCycle counts."""

    stage1: Schedule = Schedule(epochs=200, lr=0.015, pieces=((0.6, 0.1), (0.8, 0.01)), min_steps=6_000)
    stage2: Schedule = Schedule(epochs=0, lr=0.0)
    expression: ExpressionWeights = ExpressionWeights()
    identity: IdentityWeights = IdentityWeights()
    batch_size: int = 128  # frames; two views of each
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            zoom=0.3, aspect=0.15, shift=0.1, color=0.4, hue=0.1, color_probability=1.0, gray_probability=0.2
        )
    )
    initialization: Literal["released", "fan_in"] = "fan_in"  # with the released one all codes start almost equal
    queue_size: int = 65_536
    key_momentum: float = 0.999
    temperature: float = 0.07
    sgd_momentum: float = 0.9
    weight_decay: float = 1e-4
    # These encoders lack the batch normalization of MoCo's: unbound, a few steps saturate the tanh for good.
    gradient_norm: float = 1.0

    def num_pairs(self, stage: int) -> int:
        return self.batch_size


def resolve_recipe(settings: TrainSettings) -> MocoRecipe:
    """The recipe with the settings' own numbers. Errors: SettingsError for a setting that means nothing here."""
    defaults = {spec.name: spec.default for spec in dataclasses.fields(TrainSettings)}
    for name in WITHOUT_MEANING:
        value = getattr(settings, name)
        if value != defaults[name] and not (name == "picture_steps" and value == 0):
            flag = name.replace("_", "-")
            raise SettingsError(f"--{flag}: found {value!r}, expected none: --model moco has one stage and one loss")
    return with_numbers(MocoRecipe(), settings)


def run_rank(
    settings: TrainSettings, store: Store, folder: Path, rank: Rank, on_report: Report | None = None
) -> dict[str, Any]:
    """As `loop.run_rank`; the encoder is the default preset's. Rank 0 writes FOLDER/model, which evaluate reads."""
    recipe = resolve_recipe(settings)
    if recipe.queue_size < recipe.batch_size:
        raise SettingsError(f"batch_size: found {recipe.batch_size}, expected at most the queue's {recipe.queue_size}")
    settings = dataclasses.replace(settings, model=None, picture_steps=0)
    return MocoRun(settings, recipe, store, folder, rank, on_report).complete()


class Views(ClipPairs):
    """Two views of one frame of each clip, each with its own augmentation."""

    def _choose(self, rng: np.random.Generator, clip: int) -> tuple[tuple[int, int], tuple[int, int], bool]:
        frame = clip, int(rng.integers(self.store.clip_lengths[clip]))
        return frame, frame, bool(rng.uniform() < 0.5)


class Queue(nn.Module):
    """The keys of the batches before this one, (size, D), of length 1; random at first. The oldest are overwritten."""

    keys: Tensor
    position: Tensor  # () int64, where the next key goes

    def __init__(self, size: int, code_dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, code_dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def put(self, keys: Tensor) -> None:
        """Takes keys (B, D), B no larger than the queue."""
        size = len(self.keys)
        places = (self.position + torch.arange(len(keys), device=keys.device)) % size
        self.keys[places] = keys
        self.position.copy_((self.position + len(keys)) % size)


class MocoStage(nn.Module):
    """What the loop asks of a stage: views in, losses out. The query encoder is the model's E_exp."""

    def __init__(self, model: FaceCycle, recipe: MocoRecipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        key_encoder = copy.deepcopy(model.expression_encoder).requires_grad_(False)
        self.extras = nn.ModuleDict(
            {"key_encoder": key_encoder, "queue": Queue(recipe.queue_size, model.config.code_dim)}
        )

    reads_landmarks = False

    def enable(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        self.model.requires_grad_(False)
        self.model.expression_encoder.requires_grad_(True)
        return list(self.model.expression_encoder.parameters()), []

    def forward(self, views: Tensor, _persons: Tensor, _landmarks: Tensor | None = None) -> Losses:
        """Views (2B, 3, S, S), those of the queries in the first half, to the loss (equation 1)."""
        queue = cast(Queue, self.extras["queue"])
        with torch.no_grad():
            read = self.model.encoder_input(views)
            self._follow()
            keys = F.normalize(self.extras["key_encoder"](read.chunk(2)[1]), dim=1)
        queries = F.normalize(self.model.expression_encoder(read.chunk(2)[0]), dim=1)
        # The copy is for the backward pass, which comes after these keys are in the queue.
        found = contrast(queries, keys, queue.keys.clone(), self.recipe.temperature)
        queue.put(gather_over_replicas(keys))
        return found

    def _follow(self) -> None:
        """The key encoder goes a little of the way to the query encoder (equation 2)."""
        followers, leaders = self.extras["key_encoder"].parameters(), self.model.expression_encoder.parameters()
        torch._foreach_lerp_(list(followers), list(leaders), 1 - self.recipe.key_momentum)


def contrast(queries: Tensor, keys: Tensor, others: Tensor, temperature: float) -> Losses:
    """Queries (B, D) should be told from `others` (N, D) by their own keys (B, D); all of length 1.

    `accuracy` is the share whose own key is the nearest.
    """
    with torch.autocast(queries.device.type, enabled=False):  # eight bits of mantissa would blur the cosines
        own = (queries * keys).sum(dim=1, keepdim=True)
        chances = torch.cat([own, queries @ others.T], dim=1) / temperature
    target = torch.zeros(len(chances), dtype=torch.int64, device=chances.device)
    loss = F.cross_entropy(chances, target)
    return {"contrast": loss, "accuracy": (chances.argmax(dim=1) == 0).float().mean(), "total": loss}


def make_optimizer(groups: list[dict[str, Any]], recipe: MocoRecipe) -> torch.optim.Optimizer:
    """SGD, with bound gradients; each group brings its learning rate."""
    optimizer = torch.optim.SGD(groups, momentum=recipe.sgd_momentum, weight_decay=recipe.weight_decay)
    trained = [parameter for group in groups for parameter in group["params"]]

    def bind(*_: Any) -> None:
        nn.utils.clip_grad_norm_(trained, recipe.gradient_norm)

    optimizer.register_step_pre_hook(bind)
    return optimizer


class MocoRun(Run):
    recipe: MocoRecipe
    least_pairs = 1

    def _make_stages(self, vgg_weights: dict[str, Tensor]) -> tuple[Stage, ...]:
        return (cast(Stage, MocoStage(self.model, self.recipe)),)

    def _begin(self) -> None:
        """Nothing: the encoder begins at random, as MoCo's does."""

    def _make_pairs(self, number: int) -> ClipPairs:
        rule = dataclasses.replace(self._pair_rule(number), same_color=False)
        return Views(self.store, rule, self.settings.seed)

    def _make_optimizer(self, groups: list[dict[str, Any]], schedule: Schedule) -> torch.optim.Optimizer:
        return make_optimizer(groups, self.recipe)

    def _replicate(self, stage: nn.Module) -> nn.Module:
        if self.rank.world_size == 1:
            return stage
        devices = [self.device.index or 0] if self.device.type == "cuda" else None
        # Every rank fills its queue with the same keys: there is nothing to send.
        return nn.parallel.DistributedDataParallel(stage, device_ids=devices, broadcast_buffers=False)

    def _write_model(self, folder: Path, summary: dict[str, Any]) -> None:
        save_model(self.model, folder, kind=NAME, parts=SAVED)
        write_card(folder / "README.md", self.settings, self.recipe, self.store, summary)


def write_card(path: Path, settings: TrainSettings, recipe: MocoRecipe, store: Store, summary: dict[str, Any]) -> None:
    losses = ", ".join(f"{name} {value}" for name, value in summary["losses"].items())
    path.write_text(f"""# MoCo

An encoder trained by momentum contrast ("Momentum Contrast for Unsupervised Visual Representation Learning", CVPR
2020) with fcvideo {__version__}, as a baseline for `fcvideo evaluate --moco`. It embeds no videos.

| | |
|---|---|
| data | {Path(settings.data).name}: {len(store)} clips, {int(store.clip_lengths.sum())} frames |
| steps | {summary["steps_stage1"]} of {recipe.batch_size} frames, learning rate {recipe.stage1.lr} |
| queue | {recipe.queue_size} keys, momentum {recipe.key_momentum}, temperature {recipe.temperature} |
| seed | {settings.seed} |
| seconds | {summary["seconds"]} |
| last | {losses} |
""")
