"""The two training stages: pictures in, named losses out; plain modules that DistributedDataParallel can wrap."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fcvideo.models.facecycle import FaceCycle
from fcvideo.models.vgg import VGG19, Layer
from fcvideo.models.warp import warp
from fcvideo.training import losses
from fcvideo.training.recipes import ExpressionWeights, IdentityWeights
from fcvideo.training.replicas import mean_over_replicas

Pictures = dict[str, Tensor]
Losses = dict[str, Tensor]

PERCEPTUAL_DEPTH: Layer = "conv4_1"


class Stage(nn.Module, ABC):
    """What both stages share: the model, VGG-19 for features of any depth, and the weighing of losses."""

    encoders: tuple[str, ...]  # names of the model's networks that this stage trains: what leads to codes and flows,
    decoder: str  # and what draws pictures
    compared: tuple[str, ...]  # names of the pictures that should be the input

    def __init__(self, model: FaceCycle, vgg: VGG19, weights: ExpressionWeights | IdentityWeights) -> None:
        super().__init__()
        self.model, self.vgg, self.weights = model, vgg, weights
        self.perceptual_layers = (
            weights.perceptual_layers if weights.feature or weights.gram or weights.gram_squared else ()
        )
        self.layers = tuple(dict.fromkeys((*model.stem_layers, *self.perceptual_layers)))

    def forward(self, images: Tensor) -> Losses:
        """Pictures (2B, 3, S, S), the second of each pair in the second half, to every loss that has a weight.

        `total` is their weighted sum.
        """
        with torch.no_grad():
            seen = self.look(images)
        pictures = self.pictures(images, seen)
        found = self.own_losses(pictures)
        for name in self.compared:
            if getattr(self.weights, name):
                found[name] = losses.l1(pictures[name], images)
            if getattr(self.weights, f"ssim_{name}", 0):
                found[f"ssim_{name}"] = losses.ssim_loss(pictures[name], images)
        if self.perceptual_layers:
            found |= self.perceptual(pictures, self.perceptual_target(pictures, seen))
        total = torch.stack([getattr(self.weights, name) * loss for name, loss in found.items()]).sum()
        return found | {"total": total}

    @abstractmethod
    def pictures(self, images: Tensor, seen: Mapping[str, Tensor]) -> Pictures:
        """Every picture that a loss with a weight looks at, by name."""

    @abstractmethod
    def own_losses(self, pictures: Pictures) -> Losses:
        """Losses of the stage that do not compare with the input."""

    def perceptual_target(self, pictures: Pictures, seen: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """VGG features that the perceptual losses want: the input's."""
        return seen

    def enable(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Freezes all but this stage's networks; returns what the optimizer updates: encoders, and picture decoders."""
        self.model.requires_grad_(False)
        for name in (*self.encoders, self.decoder):
            self.model.get_submodule(name).requires_grad_(True)
        encoders = [p for name in self.encoders for p in self.model.get_submodule(name).parameters()]
        return encoders, list(self.model.get_submodule(self.decoder).parameters())

    def look(self, images: Tensor) -> dict[str, Tensor]:
        """VGG features by layer: one pass serves the decoders and the perceptual losses."""
        return dict(zip(self.layers, self.vgg(images, self.layers), strict=True))

    def stem(self, seen: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.model.arrange([seen[layer] for layer in self.model.stem_layers])

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

    def own_losses(self, pictures: Pictures) -> Losses:
        found: Losses = {}
        if self.weights.symmetry:
            found["symmetry"] = losses.symmetry(pictures["neutral"])
        if self.weights.symmetry_warp:
            found["symmetry_warp"] = losses.symmetry(pictures["warp"])
        return found

    def pictures(self, images: Tensor, seen: Mapping[str, Tensor]) -> Pictures:
        w, model = self.weights, self.model
        forward, backward = model.flows(model.expression_encoder(images))
        stem = self.stem(seen)
        neutral = model.expression_decoder(stem, forward)
        pictures = {"neutral": neutral, "rebuilt": model.re_express(swap_pairs(neutral), backward)}
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

    def own_losses(self, pictures: Pictures) -> Losses:
        found: Losses = {}
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

    def pictures(self, images: Tensor, seen: Mapping[str, Tensor]) -> Pictures:
        w, model = self.weights, self.model
        with torch.no_grad():
            forward, backward = model.flows(model.expression_encoder(images))
            neutral = model.expression_decoder(self.stem(seen), forward)
        identity = model.identity_encoder(images)
        mean = model.mean_face(neutral, identity)
        if w.mean == "batch":
            others = mean_over_replicas(mean.mean(dim=0, keepdim=True)).expand_as(mean)
        else:
            others = mean[partners(len(images))]
        pictures = {"neutral": neutral, "mean": others if w.mean == "batch" else mean}
        pictures["re_identified"] = model.re_identify(others, identity)
        if w.warped or w.ssim_warped:
            pictures["warped"] = warp(pictures["re_identified"], backward)
        if w.rebuilt or w.ssim_rebuilt or "rebuilt" in w.perceptual_of:
            pictures["rebuilt"] = model.re_express(pictures["re_identified"], backward)
        return pictures


def swap_pairs(x: Tensor) -> Tensor:
    """Puts each picture's pair in its place."""
    first, second = x.chunk(2)
    return torch.cat([second, first])


def partners(num_images: int) -> Tensor:
    """For each picture the index of one of another clip: its neighbour, two by two (equations 14 and 15)."""
    clips = torch.arange(num_images // 2)
    other = clips ^ 1 if len(clips) % 2 == 0 else clips.roll(1)
    return torch.cat([other, other + len(clips)])
