"""FaceCycle whole: two encoders, the flow decoder and the two face decoders around one frozen stem."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcvideo.config import PUBLISHED_SIDE_FACTOR
from fcvideo.errors import ModelError
from fcvideo.models.decoders import ExpressionDecoder, Features, IdentityDecoder
from fcvideo.models.encoder import Encoder, StemEncoder
from fcvideo.models.flow import FlowDecoder
from fcvideo.models.layers import init_fan_in
from fcvideo.models.vgg import NAMES, VGG19, Layer
from fcvideo.models.warp import backward_flow
from fcvideo.models.yunet import DetectorStem

DETECTOR = "detector"  # its features' name among those of the stem's layers
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class FaceCycleConfig:
    """Every size of the model, and the framing of the faces that it was trained on. Saved as config.json.

    The defaults are the published network.
    """

    image_side: int = 64
    code_dim: int = 256
    encoders_read: Literal["pixels", "conv4_1"] = "pixels"  # or the frozen stem's features
    reads_detector: bool = False  # E_exp above the stem reads features of the face detector, YuNet, too
    encoder_widths: tuple[int, int, int] = (64, 128, 256)  # the last alone counts above the stem
    map_width: int = 128
    hidden: int = 512
    flow_widths: tuple[int, int, int] = (256, 128, 64)
    stem: Layer = "conv3_1"
    decoder_width: int = 256
    up_width: int = 128
    expression_blocks: int = 8
    identity_blocks: int = 7
    inpainting_noise: float = 1.0
    framing_side_factor: float = PUBLISHED_SIDE_FACTOR
    framing_center: tuple[float, float] = (0.50, 0.40)

    @classmethod
    def preset(cls, name: str) -> FaceCycleConfig:
        if name not in PRESETS:
            raise ModelError(f"{name}: no such preset; there are {', '.join(PRESETS)}")
        return PRESETS[name]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FaceCycleConfig:
        if not isinstance(values, dict):
            raise ModelError(f"config.json: found {values!r:.40}, expected an object with the model's sizes")
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ModelError(f"config.json: unknown key {unknown[0]!r}; is the model of a later version?")
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        for spec in dataclasses.fields(cls):
            if spec.name in plain and not _is_like(plain[spec.name], spec.default):
                raise ModelError(f"config.json: {spec.name}: found {plain[spec.name]!r:.40}, expected {spec.type}")
        for name, choices in _CHOICES.items():
            if plain.get(name, choices[0]) not in choices:
                raise ModelError(f"config.json: {name}: found {plain[name]!r:.40}, expected one of {choices}")
        return cls(**plain)


_CHOICES: dict[str, Sequence[Any]] = {
    "encoders_read": ("pixels", "conv4_1"),
    "stem": ("conv2_1", "conv3_1"),
    "expression_blocks": range(1, 65),
    "identity_blocks": range(1, 65),
}


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value has the default's type and length; sizes are 1 or more, and all numbers finite."""
    if isinstance(default, tuple):
        return (
            isinstance(value, tuple)
            and len(value) == len(default)
            and all(_is_like(item, wanted) for item, wanted in zip(value, default, strict=True))
        )
    if isinstance(default, float):
        return type(value) in (int, float) and math.isfinite(value)
    if isinstance(default, int) and not isinstance(default, bool):
        return type(value) is int and value >= 1
    return type(value) is type(default)


PRESETS = {
    "facecycle-64": FaceCycleConfig(),
    "facecycle-64-small": FaceCycleConfig(
        encoders_read="conv4_1",
        reads_detector=True,
        encoder_widths=(48, 96, 192),
        flow_widths=(128, 64, 32),
        stem="conv2_1",
        decoder_width=64,
        up_width=32,
        expression_blocks=4,
        identity_blocks=5,
        inpainting_noise=0.0,
    ),
}


Seen = Mapping[str, Tensor]  # the stem's features by layer


class Embedding(NamedTuple):
    expression: Tensor  # (B, code_dim), in [-1, 1]
    identity: Tensor  # (B, code_dim), in [-1, 1]
    cycle_error: Tensor | None  # (B,), mean absolute difference in normalized units


class FaceCycle(nn.Module):
    """All networks; pictures are (B, 3, S, S), ImageNet-normalized (see `normalize`)."""

    def __init__(self, config: FaceCycleConfig) -> None:
        super().__init__()
        self.config = c = config
        if c.image_side not in (64, 128):
            raise ModelError(f"image_side: found {c.image_side}, expected 64 or 128")
        if c.reads_detector and c.encoders_read == "pixels":
            raise ModelError("reads_detector: found true with encoders that read pixels, expected conv4_1")
        stem_widths = (128, 256) if c.stem == "conv3_1" else (128, 128)
        self.stem = VGG19(max(self.stem_layers, key=NAMES.index))
        self.detector = DetectorStem() if c.reads_detector else None
        self.expression_encoder = _build_encoder(c, c.reads_detector)
        self.identity_encoder = _build_encoder(c)
        self.flow_decoder = FlowDecoder(c.code_dim, c.flow_widths)
        self.expression_decoder = ExpressionDecoder(
            stem_widths, c.decoder_width, c.up_width, c.expression_blocks, c.image_side, c.inpainting_noise
        )
        self.identity_decoder = IdentityDecoder(
            stem_widths[1], c.code_dim, c.decoder_width, c.up_width, c.identity_blocks
        )

    def init_fan_in(self) -> None:
        """Initializes encoders and D_flow so that codes and flows differ between faces from the start."""
        for network in (self.expression_encoder, self.identity_encoder, self.flow_decoder):
            init_fan_in(network)
        nn.init.normal_(self.flow_decoder.to_flow.weight, 0.0, 0.02)

    @property
    def decoder_layers(self) -> tuple[Layer, ...]:
        """What the decoders read of the stem."""
        return ("conv2_1", "conv3_1") if self.config.stem == "conv3_1" else ("conv2_1",)

    @property
    def stem_layers(self) -> tuple[Layer, ...]:
        """What encoders and decoders read of the stem."""
        read = self.config.encoders_read
        return self.decoder_layers if read == "pixels" else (*self.decoder_layers, read)

    def look(self, images: Tensor) -> Seen:
        """Everything that encoders and decoders read of pictures, in one pass of the stem."""
        return self.detect(images) | dict(zip(self.stem_layers, self.stem(images, self.stem_layers), strict=True))

    def detect(self, images: Tensor) -> dict[str, Tensor]:
        """The detector's features, where E_exp reads them."""
        return {} if self.detector is None else {DETECTOR: self.detector(255 * denormalize(images))}

    def encoder_input(self, images: Tensor, seen: Seen | None = None) -> Tensor:
        """What both encoders read: the pictures, or the stem's features of them (from `seen` where they are known), and
        behind those the detector's, which E_exp alone takes."""
        layer = self.config.encoders_read
        if layer == "pixels":
            return images
        if seen is None:
            seen = self.detect(images) | {str(layer): self.stem(images, (layer,))[0]}
        return seen[layer] if self.detector is None else torch.cat([seen[layer], seen[DETECTOR]], dim=1)

    def arrange(self, seen: Seen) -> Features:
        """Features of `decoder_layers`, wherever they were computed, as the decoders take them."""
        layers = [seen[layer] for layer in self.decoder_layers]
        return layers[0], layers[1] if len(layers) > 1 else F.avg_pool2d(layers[0], 2)

    def features(self, images: Tensor) -> Features:
        """The frozen stem's fine (S/2) and coarse (S/4) maps."""
        return self.arrange(dict(zip(self.decoder_layers, self.stem(images, self.decoder_layers), strict=True)))

    def encode_expression(self, images: Tensor) -> Tensor:
        """Expression codes (B, code_dim) in [-1, 1]."""
        return self.expression_encoder(self.encoder_input(images))

    def encode_identity(self, images: Tensor) -> Tensor:
        """Identity codes (B, code_dim) in [-1, 1]."""
        return self.identity_encoder(self.encoder_input(images))

    def flows(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Forward flow (face to neutral) and backward flow of codes, each (B, 2, 16, 16) (equation 3)."""
        forward = self.flow_decoder(expression)
        return forward, backward_flow(forward)

    def neutral_face(self, images: Tensor, forward_flow: Tensor) -> Tensor:
        """De-expression (equation 5)."""
        return self.expression_decoder(self.features(images), forward_flow)

    def re_express(self, neutral: Tensor, backward: Tensor) -> Tensor:
        """Re-expression of neutral faces with the backward flow of any face (equation 6)."""
        return self.expression_decoder(self.features(neutral), backward)

    def mean_face(self, neutral: Tensor, identity: Tensor) -> Tensor:
        """De-identity (equation 10)."""
        decoder = self.identity_decoder
        return decoder(self.features(neutral)[1], identity, decoder.de_identity)

    def re_identify(self, mean: Tensor, identity: Tensor) -> Tensor:
        """Re-identity: the neutral face back from a mean face (equation 12)."""
        decoder = self.identity_decoder
        return decoder(self.features(mean)[1], identity, decoder.re_identity)

    def embed(self, images: Tensor, cycle_error: bool = True, seen: Seen | None = None) -> Embedding:
        """Both codes of each face, and how far they can be trusted. `seen` is `look(images)` where that is known."""
        read = self.encoder_input(images, seen)
        expression, identity = self.expression_encoder(read), self.identity_encoder(read)
        return Embedding(expression, identity, self.cycle_error(images, expression, seen) if cycle_error else None)

    def cycle_error(self, images: Tensor, expression: Tensor, seen: Seen | None = None) -> Tensor:
        """How badly each face is rebuilt from its own neutral face and expression (B,): mean absolute difference."""
        forward, backward = self.flows(expression)
        features = self.features(images) if seen is None else self.arrange(seen)
        rebuilt = self.re_express(self.expression_decoder(features, forward), backward)
        return (rebuilt - images).abs().mean(dim=(1, 2, 3))


def _build_encoder(c: FaceCycleConfig, reads_detector: bool = False) -> Encoder | StemEncoder:
    if c.encoders_read == "pixels":
        return Encoder(c.encoder_widths, c.map_width, c.hidden, c.code_dim, c.image_side)
    return StemEncoder(c.encoder_widths[-1], c.map_width, c.hidden, c.code_dim, c.image_side, reads_detector)


def normalize(images: Tensor) -> Tensor:
    """uint8 pictures (B, 3, S, S) to float32, ImageNet-normalized."""
    return normalize_unit(images.float() / 255)


def normalize_unit(images: Tensor) -> Tensor:
    """float32 pictures (B, 3, S, S) in [0, 1], ImageNet-normalized."""
    mean, deviation = _statistics(images.device)
    return (images - mean) / deviation


def denormalize(images: Tensor) -> Tensor:
    """The inverse of `normalize`, as float32 in [0, 1], clipped."""
    mean, deviation = _statistics(images.device)
    return (images.float() * deviation + mean).clamp(0, 1)


def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    return (
        torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1),
        torch.tensor(IMAGENET_DEVIATION, device=device).view(3, 1, 1),
    )
