"""The recipes: which losses count how much, and the schedule. Every number of both columns of the FaceCycle table."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from fcvideo.clips.augment import Augmentation
from fcvideo.errors import SettingsError

VGG_LAYERS = ("conv2_1", "conv3_1", "conv4_1")


@dataclass(frozen=True)
class ExpressionWeights:
    """Weights of stage 1's losses; 0 switches a loss off, and what only it needs is not computed."""

    rebuilt: float = 0.0  # L1 of the face rebuilt from the pair's neutral face (equation 8)
    plain: float = 0.0  # L1 of D_exp without a flow
    warped_neutral: float = 0.0  # L1 of the pair's neutral face, warped back as a picture
    flow: float = 0.0  # L1 of the picture warped there and back (equation 4)
    flow_swapped: float = 0.0  # the same, back from the pair's warp
    feature: float = 0.0  # VGG features, root mean square
    gram: float = 0.0  # Gram matrices, root mean square
    gram_squared: float = 0.0  # Gram matrices, mean square
    ssim_rebuilt: float = 0.0
    ssim_plain: float = 0.0
    ssim_warped_neutral: float = 0.0
    ssim_flow_swapped: float = 0.0
    symmetry: float = 0.0  # of the neutral face
    symmetry_warp: float = 0.0  # of the picture warped forward
    told_features: float = 0.0  # ours: components of what E_exp reads, told from the code by a linear map
    told_landmarks: float = 0.0  # ours: the face mesh's landmarks, told from the code by a linear map
    carried_landmarks: float = 0.0  # ours: how far off flows carry a face's landmarks to its pair's
    parts: float = 0.0  # ours: L1 at eyes and lips of the rebuilt and the warped neutral face
    perceptual_of: tuple[str, ...] = ("rebuilt",)  # pictures that the VGG losses look at
    perceptual_layers: tuple[str, ...] = VGG_LAYERS


@dataclass(frozen=True)
class IdentityWeights:
    """Weights of stage 2's losses."""

    mean: Literal["partner", "batch"] = "partner"  # whose mean face is re-identified
    re_identified: float = 0.0  # L1 of the re-identified against the neutral face (equation 16)
    warped: float = 0.0  # L1 of the re-identified face, warped back to the input
    rebuilt: float = 0.0  # L1 of D_exp of the re-identified face
    feature: float = 0.0
    gram: float = 0.0
    gram_squared: float = 0.0
    ssim_rebuilt: float = 0.0
    ssim_warped: float = 0.0
    symmetry: float = 0.0  # of the re-identified face
    margin: float = 0.0  # equation 17
    margin_without_hinge: float = 0.0
    same_person: float = 0.0  # ours: contrast of the codes of one person with those of others
    average_face: float = 0.0  # ours: L1 of the mean face against the average of all neutral faces
    perceptual_of: tuple[str, ...] = ("re_identified",)
    perceptual_layers: tuple[str, ...] = VGG_LAYERS


@dataclass(frozen=True)
class Schedule:
    """Learning rate over a stage: constant pieces from given fractions on, or a warm-up and a cosine."""

    epochs: float
    lr: float
    decoder_lr_factor: float = 1.0  # of the stage's picture decoder, relative to the encoder's lr
    pieces: tuple[tuple[float, float], ...] = ()  # (fraction of the stage, factor), ascending
    cosine: bool = False
    warmup_steps: int = 0
    min_steps: int = 0  # for data so small that the epochs are over in no time
    betas: tuple[float, float] = (0.5, 0.999)
    code_batches: int = 1  # batches a step whose codes are judged; pictures are drawn of the first alone

    def num_steps(self, steps_per_epoch: int) -> int:
        if not self.epochs:
            return 0
        return max(1, round(self.epochs * steps_per_epoch), self.min_steps)

    def factor(self, step: int, num_steps: int) -> float:
        """What the learning rate is multiplied by at this step of `num_steps`."""
        progress = step / num_steps
        if self.cosine:
            return min(1.0, (step + 1) / max(1, self.warmup_steps)) * 0.5 * (1 + math.cos(math.pi * progress))
        current = [factor for start, factor in self.pieces if progress >= start]
        return current[-1] if current else 1.0


@dataclass(frozen=True)
class Lesson:
    """Before stage 1: E_exp alone learns what it is asked to tell, from features kept in memory. No steps: none."""

    num_steps: int = 0
    num_images: int = 12_000  # augmented pictures at most, 150 kB of memory each
    batch_size: int = 64
    lr: float = 2e-4


@dataclass(frozen=True)
class Recipe:
    stage1: Schedule
    stage2: Schedule
    expression: ExpressionWeights
    identity: IdentityWeights
    batch_size: int = 32  # images: half as many pairs
    flip_probability: float = 0.0  # of a pair that is a face and its mirror image
    augmentation: Augmentation = field(default_factory=Augmentation)
    common_framing: float = 0.0  # share of its framing that pictures of one clip have alike: codes need not tell it
    initialization: Literal["released", "fan_in"] = "released"  # of the encoders and D_flow
    lesson: Lesson = field(default_factory=Lesson)
    average_decay: float = 0.0  # of the weights that are saved; 0 saves the last ones
    stills_share: float = 0.5  # of each batch's pairs, where stills are given
    across_clips: bool = False  # stage 2 pairs a person's clips, with colors drawn apart

    def num_pairs(self, stage: int) -> int:
        """Pairs of each step of stage 0 or 1."""
        return self.batch_size // 2 * (self.stage1, self.stage2)[stage].code_batches

    def num_stills(self, stage: int) -> int:
        """How many of them are stills, where stills are given; a clip at least remains."""
        return min(self.num_pairs(stage) - 1, round(self.num_pairs(stage) * self.stills_share))


PAPER = Recipe(
    stage1=Schedule(epochs=40, lr=5e-5, pieces=((0.5, 0.1),)),
    stage2=Schedule(epochs=20, lr=1e-4, pieces=((0.5, 0.1),)),
    expression=ExpressionWeights(flow=1, rebuilt=1, feature=0.05, gram=0.05),
    identity=IdentityWeights(re_identified=1, feature=0.05, gram=0.05, margin=1),
)

_RELEASED_SSIM = 5.0
_RELEASED_SYMMETRY = 1.5
RELEASED = Recipe(
    stage1=Schedule(epochs=40, lr=5e-5, pieces=((0, 0.2), (1 / 40, 1), (0.5, 0.2))),
    stage2=Schedule(epochs=20, lr=1e-4, pieces=((0, 0.5), (1 / 20, 1), (0.5, 0.1)), betas=(0.5, 0.9)),
    expression=ExpressionWeights(
        rebuilt=1,
        plain=1,
        warped_neutral=1,
        flow_swapped=1.5,
        gram_squared=0.01 / 4,  # 0.01 of the mean over four pictures, which `perceptual` adds up
        ssim_rebuilt=_RELEASED_SSIM,
        ssim_plain=_RELEASED_SSIM,
        ssim_flow_swapped=1.5 * _RELEASED_SSIM,
        symmetry=_RELEASED_SYMMETRY,
        symmetry_warp=0.5 * _RELEASED_SYMMETRY,
        perceptual_of=("neutral", "warped_neutral", "flow_swapped", "rebuilt"),
    ),
    identity=IdentityWeights(
        mean="batch",
        re_identified=1,
        warped=0.8,
        rebuilt=1,
        gram_squared=0.01 / 2,
        ssim_rebuilt=_RELEASED_SSIM,
        ssim_warped=0.8 * _RELEASED_SSIM,
        symmetry=_RELEASED_SYMMETRY,
        margin_without_hinge=1,
        perceptual_of=("warped", "rebuilt"),
    ),
    flip_probability=0.5,
    augmentation=Augmentation(zoom=0.05, aspect=0.05, color=0.05, hue=0.01),
)

DEFAULT = dataclasses.replace(
    RELEASED,
    # Encoders at 3e-4 drove their tanh into saturation on 8,000 frames (every code the same); decoders gain from more.
    stage1=Schedule(
        epochs=40,
        lr=1.5e-4,
        decoder_lr_factor=4,
        cosine=True,
        warmup_steps=100,
        min_steps=12_000,
        betas=(0.9, 0.999),
        code_batches=2,
    ),
    stage2=Schedule(
        epochs=20,
        lr=5e-4,
        decoder_lr_factor=1.2,
        cosine=True,
        warmup_steps=100,
        min_steps=5_000,
        betas=(0.9, 0.999),
        code_batches=4,
    ),
    expression=dataclasses.replace(
        RELEASED.expression,
        plain=0,
        ssim_plain=0,
        # Without more weight on its warp the neutral face becomes a code of stripes that only D_exp can read.
        warped_neutral=2,
        ssim_warped_neutral=0.5 * _RELEASED_SSIM,
        gram_squared=0,
        feature=0.1,
        perceptual_of=("rebuilt",),
        perceptual_layers=("conv2_1", "conv3_1"),
        told_features=2,
        told_landmarks=6,
        carried_landmarks=40,
        parts=2,
    ),
    identity=dataclasses.replace(
        RELEASED.identity,
        mean="partner",
        gram_squared=0,
        feature=0.1,
        margin=1,
        margin_without_hinge=0,
        perceptual_of=("rebuilt",),
        perceptual_layers=("conv2_1", "conv3_1"),
        same_person=1,
        average_face=1,
    ),
    flip_probability=0.2,
    augmentation=Augmentation(
        zoom=0.2, aspect=0.03, shift=0.04, rotation_deg=6, color=0.3, hue=0.02, gray_probability=0.2
    ),
    common_framing=0.7,
    initialization="fan_in",
    lesson=Lesson(num_steps=900),
    average_decay=0.999,
    stills_share=0.4,
    across_clips=True,
)

RECIPES = {"paper": PAPER, "released": RELEASED, "default": DEFAULT}


def override_losses(recipe: Recipe, text: str | None) -> Recipe:
    """`text` is 'name=weight,..'; a name that both stages have is set in both.

    Errors: SettingsError for a name that is no loss, or a weight that is no number of 0 or more.
    """
    weights = _parse(text or "")
    known = {name for kind in (ExpressionWeights, IdentityWeights) for name in _loss_names(kind)}
    if unknown := sorted(weights.keys() - known):
        raise SettingsError(f"--losses: no loss {unknown[0]!r}; there are {', '.join(sorted(known))}")
    parts: dict[str, Any] = {}
    for part in ("expression", "identity"):
        current = getattr(recipe, part)
        parts[part] = dataclasses.replace(
            current, **{n: weights[n] for n in _loss_names(type(current)) if n in weights}
        )
    return dataclasses.replace(recipe, **parts)


def _parse(text: str) -> dict[str, float]:
    weights = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = item.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise SettingsError(f"--losses: found {item!r}, expected name=weight") from None
        if not 0 <= weights[name.strip()] < math.inf:
            raise SettingsError(f"--losses: found {item!r}, expected a weight of 0 or more")
    return weights


def _loss_names(kind: type) -> list[str]:
    return [f.name for f in dataclasses.fields(kind) if f.type == "float"]
