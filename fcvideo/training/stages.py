"""The two training stages: pictures in, named losses out; plain modules that DistributedDataParallel can wrap."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from fcvideo.models.facecycle import DETECTOR, FaceCycle
from fcvideo.models.vgg import VGG19, Layer
from fcvideo.models.warp import warp
from fcvideo.training import losses
from fcvideo.training.components import FaceComponents, condense
from fcvideo.training.landmarks import parts_mask, to_grid
from fcvideo.training.recipes import ExpressionWeights, IdentityWeights
from fcvideo.training.replicas import mean_over_replicas
from fcvideo.training.telling import ToldLandmarks, fit_linear

Pictures = dict[str, Tensor]
Losses = dict[str, Tensor]

PERCEPTUAL_DEPTH: Layer = "conv4_1"
AVERAGE_MOMENTUM = 0.02
TOLD_SHARE = 2  # as many components are told as a code has numbers, times this


class Stage(nn.Module, ABC):
    """What both stages share: the model, VGG-19 for features of any depth, and the weighing of losses."""

    encoders: tuple[str, ...]  # names of the model's networks that this stage trains: what leads to codes and flows,
    decoder: str  # and what draws pictures
    compared: tuple[str, ...]  # names of the pictures that should be the input

    def __init__(
        self, model: FaceCycle, vgg: VGG19, weights: ExpressionWeights | IdentityWeights, code_batches: int = 1
    ) -> None:
        super().__init__()
        self.model, self.vgg, self.weights, self.code_batches = model, vgg, weights, code_batches
        self.extras = nn.ModuleDict()  # what only training needs
        self.perceptual_layers = (
            weights.perceptual_layers if weights.feature or weights.gram or weights.gram_squared else ()
        )
        self.layers = tuple(dict.fromkeys((*model.stem_layers, *self.perceptual_layers)))

    def forward(self, images: Tensor, persons: Tensor, landmarks: Tensor | None = None) -> Losses:
        """Pictures (2B, 3, S, S), the second of each pair in the second half, and persons (2B,), to every loss that
        has a weight.

        `landmarks` (2B, K, 2) in [-1, 1] of the pictures, NaN where unknown, are wanted where `reads_landmarks`.
        All codes are judged; pictures are drawn of the first of `code_batches` parts. `total` is the weighted sum.
        """
        with torch.no_grad():
            seen = self.look(images)
        codes = self.encode(images, seen)
        found = self.code_losses(codes, seen, persons, landmarks)
        if self.code_batches > 1:
            drawn = _first_pairs(len(images), len(images) // 2 // self.code_batches, images.device)
            images, codes = images[drawn], codes[drawn]
            seen = {layer: features[drawn] for layer, features in seen.items()}
            landmarks = None if landmarks is None else landmarks[drawn]
        pictures = self.pictures(images, seen, codes)
        found |= self.own_losses(images, pictures, landmarks)
        for name in self.compared:
            if getattr(self.weights, name):
                found[name] = losses.l1(pictures[name], images)
            if getattr(self.weights, f"ssim_{name}", 0):
                found[f"ssim_{name}"] = losses.ssim_loss(pictures[name], images)
        if self.perceptual_layers:
            found |= self.perceptual(pictures, self.perceptual_target(pictures, seen))
        total = torch.stack([getattr(self.weights, name) * loss for name, loss in found.items()]).sum()
        return found | {"total": total}

    @property
    def reads_landmarks(self) -> bool:
        return False

    @abstractmethod
    def encode(self, images: Tensor, seen: Mapping[str, Tensor]) -> Tensor:
        """The codes that this stage trains."""

    @abstractmethod
    def code_losses(
        self, codes: Tensor, seen: Mapping[str, Tensor], persons: Tensor, landmarks: Tensor | None
    ) -> Losses:
        """Losses that need no pictures."""

    @abstractmethod
    def pictures(self, images: Tensor, seen: Mapping[str, Tensor], codes: Tensor) -> Pictures:
        """Every picture that a loss with a weight looks at, by name."""

    @abstractmethod
    def own_losses(self, images: Tensor, pictures: Pictures, landmarks: Tensor | None) -> Losses:
        """Losses that the other stage has not."""

    def perceptual_target(self, pictures: Pictures, seen: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """VGG features that the perceptual losses want: the input's."""
        return seen

    def enable(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Freezes all but this stage's networks; returns what the optimizer updates: encoders, and picture decoders."""
        self.model.requires_grad_(False)
        for name in (*self.encoders, self.decoder):
            self.model.get_submodule(name).requires_grad_(True)
        encoders = [p for name in self.encoders for p in self.model.get_submodule(name).parameters()]
        encoders += self.extras.parameters()
        return encoders, list(self.model.get_submodule(self.decoder).parameters())

    def look(self, images: Tensor) -> dict[str, Tensor]:
        """VGG features by layer: one pass serves the decoders and the perceptual losses."""
        return self.model.detect(images) | dict(zip(self.layers, self.vgg(images, self.layers), strict=True))

    def stem(self, seen: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.model.arrange(seen)

    def perceptual(self, pictures: Pictures, target: Mapping[str, Tensor]) -> Losses:
        """Sums over the recipe's pictures and layers of the perceptual distances that have a weight."""
        weights, found = self.weights, Losses()
        kinds = {
            "feature": losses.feature_distance,
            "gram": losses.gram_distance,
            "gram_squared": losses.gram_squared,
        }
        seen = [self.vgg(pictures[name], self.perceptual_layers) for name in weights.perceptual_of]
        for kind, distance in kinds.items():
            if getattr(weights, kind):
                found[kind] = torch.stack(
                    [
                        distance(features, target[layer].detach())
                        for layers in seen
                        for layer, features in zip(self.perceptual_layers, layers, strict=True)
                    ]
                ).sum()
        return found


class ExpressionStage(Stage):
    """Stage 1 (sections 2.1 and 2.2): E_exp, D_flow and D_exp, by facial motion cycle-consistency."""

    encoders = ("expression_encoder", "flow_decoder")
    decoder = "expression_decoder"
    compared = ("rebuilt", "plain", "warped_neutral", "flow", "flow_swapped")
    weights: ExpressionWeights

    def __init__(self, model: FaceCycle, vgg: VGG19, weights: ExpressionWeights, code_batches: int = 1) -> None:
        super().__init__(model, vgg, weights, code_batches)
        if weights.told_features:
            num = TOLD_SHARE * model.config.code_dim
            self.extras["components"] = FaceComponents(model.config.map_width, num, model.detector is not None)
            self.extras["tell"] = nn.Linear(model.config.code_dim, num)
            self.layers = tuple(dict.fromkeys((*self.layers, PERCEPTUAL_DEPTH)))
        if weights.told_landmarks:
            self.extras["landmarks"] = ToldLandmarks(model.config.code_dim)

    @property
    def tells_landmarks(self) -> bool:
        return "landmarks" in self.extras

    @property
    def reads_landmarks(self) -> bool:
        return self.tells_landmarks or self.weights.carried_landmarks > 0 or self.weights.parts > 0

    @torch.no_grad()
    def begin_telling(self, codes: Tensor, condensed: Tensor, landmarks: Tensor | None) -> None:
        """Fits the layers that tell to codes (N, D) of faces; the others as in `told`."""
        if "components" in self.extras:
            fit_linear(cast(nn.Linear, self.extras["tell"]), codes, self.extras["components"](condensed))
        if landmarks is not None and self.tells_landmarks:
            cast(ToldLandmarks, self.extras["landmarks"]).fit(codes, landmarks)

    def encode(self, images: Tensor, seen: Mapping[str, Tensor]) -> Tensor:
        return self.model.expression_encoder(self.model.encoder_input(images, seen))

    def code_losses(
        self, codes: Tensor, seen: Mapping[str, Tensor], persons: Tensor, landmarks: Tensor | None
    ) -> Losses:
        return self.told(codes, self.condense(seen) if "components" in self.extras else None, landmarks)

    @staticmethod
    def condense(seen: Mapping[str, Tensor]) -> Tensor:
        """What components are taken from (N, D), out of all that was seen of pictures."""
        return condense(seen[PERCEPTUAL_DEPTH], seen.get(DETECTOR))

    def told(self, codes: Tensor, condensed: Tensor | None, landmarks: Tensor | None) -> Losses:
        """What codes (N, D) do not tell of that which they are asked to: of frozen features (N, D'), as `condense`
        gives them, and of landmarks (N, K, 2)."""
        found: Losses = {}
        if "components" in self.extras:
            found["told_features"] = losses.told(self.extras["tell"](codes), self.extras["components"](condensed))
        if self.tells_landmarks:
            assert landmarks is not None
            found["told_landmarks"] = self.extras["landmarks"](codes, landmarks)
        return found

    def own_losses(self, images: Tensor, pictures: Pictures, landmarks: Tensor | None) -> Losses:
        found: Losses = {}
        if self.weights.carried_landmarks:
            assert landmarks is not None
            found["carried_landmarks"] = losses.carried(pictures["forward"], to_grid(landmarks, images.shape[-1]))
        if self.weights.parts:
            assert landmarks is not None
            where = parts_mask(landmarks, images.shape[-1])
            drawn = [pictures[name] for name in ("rebuilt", "warped_neutral") if name in pictures]
            found["parts"] = torch.stack([losses.l1_where(picture, images, where) for picture in drawn]).sum()
        if self.weights.symmetry:
            found["symmetry"] = losses.symmetry(pictures["neutral"])
        if self.weights.symmetry_warp:
            found["symmetry_warp"] = losses.symmetry(pictures["warp"])
        return found

    def pictures(self, images: Tensor, seen: Mapping[str, Tensor], codes: Tensor) -> Pictures:
        w, model = self.weights, self.model
        forward, backward = model.flows(codes)
        stem = self.stem(seen)
        neutral = model.expression_decoder(stem, forward)
        pictures = {"neutral": neutral, "rebuilt": model.re_express(swap_pairs(neutral), backward)}
        pictures["forward"] = forward
        if w.plain or w.ssim_plain:
            pictures["plain"] = model.expression_decoder(stem, None)
        if w.warped_neutral or w.ssim_warped_neutral or "warped_neutral" in w.perceptual_of:
            pictures["warped_neutral"] = warp(swap_pairs(neutral), backward)
        pictures["warp"] = warped = warp(images, forward)
        if w.flow:
            pictures["flow"] = warp(warped, backward)
        if w.flow_swapped or w.ssim_flow_swapped:
            pictures["flow_swapped"] = warp(swap_pairs(warped), backward)
        return pictures


class IdentityStage(Stage):
    """Stage 2 (sections 2.3 and 2.4): E_id and D_id with its modulations, by identity cycle-consistency."""

    encoders = ("identity_encoder",)
    decoder = "identity_decoder"
    compared = ("warped", "rebuilt")
    weights: IdentityWeights

    def __init__(self, model: FaceCycle, vgg: VGG19, weights: IdentityWeights, code_batches: int = 1) -> None:
        super().__init__(model, vgg, weights, code_batches)
        if weights.average_face:
            self.extras["average"] = AverageFace(model.config.image_side)

    def encode(self, images: Tensor, seen: Mapping[str, Tensor]) -> Tensor:
        return self.model.identity_encoder(self.model.encoder_input(images, seen))

    def code_losses(
        self, codes: Tensor, seen: Mapping[str, Tensor], persons: Tensor, landmarks: Tensor | None
    ) -> Losses:
        if not self.weights.same_person:
            return {}
        return {"same_person": losses.same_person(codes, persons)}

    def own_losses(self, images: Tensor, pictures: Pictures, landmarks: Tensor | None) -> Losses:
        found: Losses = {}
        if self.weights.average_face:
            average = self.extras["average"](pictures["neutral"])
            found["average_face"] = losses.l1(pictures["mean"], average.expand_as(pictures["mean"]))
        if self.weights.re_identified:
            found["re_identified"] = losses.l1(pictures["re_identified"], pictures["neutral"])
        if self.weights.symmetry:
            found["symmetry"] = losses.symmetry(pictures["re_identified"])
        for name in ("margin", "margin_without_hinge"):
            if getattr(self.weights, name):
                found[name] = getattr(losses, name)(pictures["mean"], pictures["neutral"])
        return found

    def perceptual_target(self, pictures: Pictures, seen: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The neutral face's features where the re-identified face is judged (equation 16), else the input's."""
        if self.weights.perceptual_of != ("re_identified",):
            return seen
        with torch.no_grad():
            return self.look(pictures["neutral"])

    def pictures(self, images: Tensor, seen: Mapping[str, Tensor], codes: Tensor) -> Pictures:
        w, model = self.weights, self.model
        with torch.no_grad():
            forward, backward = model.flows(model.expression_encoder(model.encoder_input(images, seen)))
            neutral = model.expression_decoder(self.stem(seen), forward)
        mean = model.mean_face(neutral, codes)
        if w.mean == "batch":
            others = mean_over_replicas(mean.mean(dim=0, keepdim=True)).expand_as(mean)
        else:
            others = mean[partners(len(images))]
        pictures = {"neutral": neutral, "mean": others if w.mean == "batch" else mean}
        pictures["re_identified"] = model.re_identify(others, codes)
        if w.warped or w.ssim_warped:
            pictures["warped"] = warp(pictures["re_identified"], backward)
        if w.rebuilt or w.ssim_rebuilt or "rebuilt" in w.perceptual_of:
            pictures["rebuilt"] = model.re_express(pictures["re_identified"], backward)
        return pictures


class AverageFace(nn.Module):
    """The average of the neutral faces seen lately, (1, 3, S, S)."""

    average: Tensor
    weight: Tensor  # () of what has been seen, up to 1

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(1, 3, side_px, side_px))
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def forward(self, neutral: Tensor) -> Tensor:
        """Takes in neutral faces (B, 3, S, S) and returns the average."""
        self.average.lerp_(mean_over_replicas(neutral.float().mean(dim=0, keepdim=True)), AVERAGE_MOMENTUM)
        self.weight.lerp_(torch.ones_like(self.weight), AVERAGE_MOMENTUM)
        return self.average / self.weight


def _first_pairs(num_images: int, num_pairs: int, device: torch.device) -> Tensor:
    """Numbers of both pictures of the first pairs."""
    first = torch.arange(num_pairs, device=device)
    return torch.cat([first, first + num_images // 2])


def swap_pairs(x: Tensor) -> Tensor:
    """Puts each picture's pair in its place."""
    first, second = x.chunk(2)
    return torch.cat([second, first])


def partners(num_images: int) -> Tensor:
    """For each picture the index of one of another clip: its neighbour, two by two (equations 14 and 15)."""
    clips = torch.arange(num_images // 2)
    other = clips ^ 1 if len(clips) % 2 == 0 else clips.roll(1)
    return torch.cat([other, other + len(clips)])
