"""A face as the networks and as people see it: its small and its full-size crop, its motion, its neutral face.

The full-size picture of a portrait in motion is the portrait itself, warped by the composed flow, plus what the
networks change beyond the warp. Where the warp cannot be trusted, the networks' picture stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcvideo.config import Neutral
from fcvideo.models.decoders import Features
from fcvideo.models.facecycle import FaceCycle, Seen, denormalize, normalize
from fcvideo.models.warp import area_change, compose_flows, invert_flow, resize_flow, warp_picture

# On self-reenactment of seven clips a blur of 0, 1 and 2 pixels gave SSIM 0.760, 0.764 and 0.766: what the networks
# add beyond the warp is coarse, and the stripes of their up-convolutions must not show.
CHANGE_BLUR_PX = 1.5  # of the networks' own pixels
# A place that the warp stretches to 4 times its size, or folds, shows no detail; nor does one whose flow there and
# back ends elsewhere.
LEAST_AREA, SURE_AREA = 0.05, 0.25
LOOSE_ERROR, SURE_ERROR = 0.08, 0.02  # grid units; 0.03 is a pixel of 64
FRAME_WIDTH = 0.25  # of half the square: over this border the motion of a pasted face fades to none


@dataclass(frozen=True)
class Looks:
    """What the networks see of B faces: the frozen stem reads each once, for its code as for its pictures."""

    images: Tensor  # (B, 3, S, S), normalized
    seen: Seen


@dataclass(frozen=True)
class Motion:
    """Where the points of B faces are in their neutral faces, and back, at the networks' size, in grid units."""

    forward: Tensor  # (B, 2, S, S): the neutral face is the face sampled at x + forward(x)
    backward: Tensor  # (B, 2, S, S): the face is the neutral face sampled at x + backward(x)
    error: Tensor  # (B, 1, S, S): how far from x both in a row end

    def __len__(self) -> int:
        return len(self.forward)

    def __getitem__(self, rows: slice | Tensor) -> Motion:
        return Motion(self.forward[rows], self.backward[rows], self.error[rows])

    def expand(self, num: int) -> Motion:
        """One face's motion as if it were that of `num`."""
        return Motion(*(flow.expand(num, -1, -1, -1) for flow in vars(self).values()))


@dataclass(frozen=True)
class Portraits:
    """B faces with all that is needed to move them. Pictures are (B, 3, height, width), S the networks' side."""

    picture: Tensor  # at full size, in [0, 1]
    neutral: Tensor  # at S, normalized
    features: Features  # the stem's, of the neutral faces
    rebuilt: Tensor  # at S, in [0, 1]: the networks' own picture of each face, made from its neutral face
    motion: Motion

    def __len__(self) -> int:
        return len(self.picture)

    def expand(self, num: int) -> Portraits:
        """One face as if it were `num`."""

        def repeat(x: Tensor) -> Tensor:
            return x.expand(num, -1, -1, -1)

        fine, coarse = self.features
        features = repeat(fine), repeat(coarse)
        return Portraits(
            repeat(self.picture), repeat(self.neutral), features, repeat(self.rebuilt), self.motion.expand(num)
        )


class PortraitPainter:
    """Makes portraits and moves them, on one device. Every method takes and gives batches."""

    def __init__(self, model: FaceCycle, device: torch.device | str = "cpu", precision: str = "float32") -> None:
        self.device, self._dtype = torch.device(device), getattr(torch, precision)
        # channels_last, and the stem's features taken once: 38 ms for a face of 256 pixels without them, 27 with
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()
        self.side_px = model.config.image_side

    @torch.inference_mode()
    def look(self, crops: np.ndarray) -> Looks:
        """At crops uint8 (B, S, S, 3)."""
        images = normalize(torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2))
        with self._networks():
            return Looks(images, self.model.look(images))

    @torch.inference_mode()
    def codes(self, looks: Looks) -> Tensor:
        """Expression codes (B, D), float32."""
        model = self.model
        with self._networks():
            return model.expression_encoder(model.encoder_input(looks.images, looks.seen)).float()

    @torch.inference_mode()
    def motion(self, codes: Tensor) -> Motion:
        """The motion that expression codes (B, D) stand for."""
        with self._networks():
            forward, _ = self.model.flows(codes.to(self.device))
        forward = resize_flow(forward.float(), self.side_px, self.side_px)
        return Motion(forward, *invert_flow(forward))

    @torch.inference_mode()
    def portraits(
        self, looks: Looks, pictures: np.ndarray, motion: Motion, neutral: Neutral = "de-expression"
    ) -> Portraits:
        """Portraits of faces whose full-size crops are uint8 (B, height, width, 3), and of their motion.

        `neutral` is the paper's first way to the neutral face, de-expression (equation 5), or its second, which takes
        the identity off and puts it back on (equations 10 to 12; section 3.5).
        """
        model = self.model
        with self._networks():
            faces = model.expression_decoder(model.arrange(looks.seen), motion.forward)
            if neutral == "re-identity":
                identity = self._identity(looks)
                faces = model.re_identify(model.mean_face(faces, identity), identity)
            features = model.features(faces)
            rebuilt = model.expression_decoder(features, motion.backward)
        return Portraits(self._full_size(pictures), faces.float(), features, denormalize(rebuilt), motion)

    @torch.inference_mode()
    def reenact(
        self,
        portraits: Portraits,
        motion: Motion,
        reference: Motion | None = None,
        framed_strength: Tensor | None = None,
    ) -> Tensor:
        """Portraits (B, 3, height, width) in [0, 1] with the motion of other faces (equation 6).

        With `reference`, only how `motion` differs from it is put on the portraits, beside their own. With
        `framed_strength` (B,), 1 inside the square and fading to no motion at its border, the result can be pasted
        where the portrait was; 0 is the portrait itself.
        """
        shift = compose_flows(motion.backward, (portraits.motion if reference is None else reference).forward)
        backward, error = motion.backward, motion.error
        if reference is not None:
            backward = compose_flows(shift, portraits.motion.backward)
            error = torch.maximum(error, portraits.motion.error)
        with self._networks():
            drawn = denormalize(self.model.expression_decoder(portraits.features, backward))
        return self._detailed(portraits, drawn, shift, error, framed_strength)

    @torch.inference_mode()
    def frontalize(self, portraits: Portraits, framed_strength: Tensor | None = None) -> Tensor:
        """Their neutral faces at full size (B, 3, height, width) in [0, 1] (section 3.5), see `reenact`."""
        motion, drawn = portraits.motion, denormalize(portraits.neutral)
        return self._detailed(portraits, drawn, motion.forward, motion.error, framed_strength)

    @torch.inference_mode()
    def deidentify(self, looks: Looks, motion: Motion, size_px: tuple[int, int]) -> Tensor:
        """Mean faces in the motion of faces: (B, 3, height, width) in [0, 1], of `size_px` (height, width).

        No detail of the pictures goes in, for it would tell who they show.
        """
        model = self.model
        with self._networks():
            neutral = model.expression_decoder(model.arrange(looks.seen), motion.forward)
            mean = model.mean_face(neutral, self._identity(looks))
            faces = model.re_express(mean, motion.backward)
        return _enlarge(_blur(denormalize(faces), CHANGE_BLUR_PX), size_px).clamp(0, 1)

    def _detailed(
        self, portraits: Portraits, drawn: Tensor, shift: Tensor, error: Tensor, framed_strength: Tensor | None
    ) -> Tensor:
        """The networks' pictures `drawn` (B, 3, S, S) at full size, with the portraits' detail moved by `shift`.

        drawn + trust x W(portrait - rebuilt): where the trust is 1, that is the warped portrait and the networks'
        own change between two pictures, in which their errors cancel.
        """
        size_px = (portraits.picture.shape[2], portraits.picture.shape[3])
        trust = _trust(shift, error)
        if framed_strength is not None:
            inside = _window(self.side_px, self.device) * framed_strength.to(self.device)[:, None, None, None]
            shift = shift * inside
            kept = warp_picture(portraits.rebuilt, shift)
            drawn, trust = kept + inside * (drawn - kept), 1 + inside * (trust - 1)
        else:
            kept = warp_picture(portraits.rebuilt, shift)
        base = _blur(drawn, CHANGE_BLUR_PX) - trust * _blur(kept, CHANGE_BLUR_PX)
        base, trust = _enlarge(torch.cat([base, trust], dim=1), size_px).split((3, 1), dim=1)
        return warp_picture(portraits.picture, shift).mul_(trust).add_(base).clamp_(0, 1)

    def _identity(self, looks: Looks) -> Tensor:
        return self.model.identity_encoder(self.model.encoder_input(looks.images, looks.seen))

    def _full_size(self, pictures: np.ndarray) -> Tensor:
        return torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float() / 255

    def _networks(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32)


def motion_size(motion: Motion) -> Tensor:
    """How far each face (B,) is from its neutral face: mean length of its flow, in grid units."""
    return motion.forward.norm(dim=1).mean(dim=(1, 2))


def _trust(shift: Tensor, error: Tensor) -> Tensor:
    """(B, 1, S, S) in [0, 1]: 1 where the warp shows what it should."""
    area = area_change(shift)
    is_whole = ((area - LEAST_AREA) / (SURE_AREA - LEAST_AREA)).clamp(0, 1)
    agrees = ((LOOSE_ERROR - error) / (LOOSE_ERROR - SURE_ERROR)).clamp(0, 1)
    return _blur(is_whole * agrees, 1.0)


def _window(side_px: int, device: torch.device) -> Tensor:
    """(1, 1, S, S): 1 inside, falling smoothly to 0 at the square's border."""
    from_border = (1 - torch.linspace(-1, 1, side_px, device=device).abs()) / FRAME_WIDTH
    line = from_border.clamp(0, 1)
    line = line * line * (3 - 2 * line)
    return (line[:, None] * line[None, :])[None, None]


def _blur(x: Tensor, deviation_px: float) -> Tensor:
    """Gaussian, the border repeated."""
    reach = int(3 * deviation_px + 0.5)
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    window = torch.exp(-(offsets**2) / (2 * deviation_px**2))
    window = (window / window.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(x, window[:, :, None, :], groups=x.shape[1])
    return F.conv2d(x, window[:, :, :, None], groups=x.shape[1])


def _enlarge(x: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Bilinear, which is enough for what was blurred before."""
    return F.interpolate(x, size=size_px, mode="bilinear", align_corners=False)
