"""From frames with a known face to the pictures that are written: what `reenact`, `frontalize`, `deidentify` show."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcvideo.config import Compose, Mask, Neutral
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.paste import hide_face, match_color, paste_face, soft_mask, square_mask
from fcvideo.models.facecycle import denormalize
from fcvideo.models.flow_color import color_flow
from fcvideo.models.store import load_model
from fcvideo.rendering.panel import draw_panel, panel_size
from fcvideo.rendering.portrait import Looks, Motion, PortraitPainter, Portraits
from fcvideo.rendering.target import Target, load_mean_face

CPU_FACES_PER_PASS, GPU_FACES_PER_PASS = 8, 16

SIZE_PX = 256
SMALLEST_PX, LARGEST_PX = 64, 512
# How much larger a face is covered that must not be known, and with how much sharper an edge: brows and beards end
# beyond the usual mask, and the far eye of a turned head lies at its side.
COVERING, COVERING_SOFTNESS = 1.15, 0.2


@dataclass(frozen=True)
class Rendering:
    """All that decides how faces become pictures."""

    kind: Literal["reenact", "frontalize", "deidentify"]
    model: str
    precision: str  # float32, bfloat16 or float16
    compose: Compose
    size_px: int  # of the square face
    neutral: Neutral = "de-expression"
    mask: Mask = "face"  # what covers a face that is de-identified
    target: Target | None = None  # the face to move, or to show instead
    reference: np.ndarray | None = None  # (D,) the source's neutral code: its motion counts from there

    @property
    def shows_source(self) -> bool:
        """Whether pixels of the source are part of the result."""
        return self.kind != "reenact" or self.compose == "panel"


@dataclass(frozen=True)
class Moment:
    """One frame to be rendered. Without `image` (a table's row) there must be a code."""

    image: np.ndarray | None  # upright RGB uint8 (H, W, 3)
    face_image: np.ndarray | None  # where the face is cut out: the same, or another frame while a face is held
    box: np.ndarray | None  # (4,) in `face_image`; None: no face to show
    presence: float  # 0 to 1: how much of the face is shown where it is pasted
    code: np.ndarray | None  # (D,) expression; read off the face if None
    shown: int  # index of the frame whose face is shown


@dataclass(frozen=True)
class _Faces:
    """B faces that are on screen, cut out at both sizes."""

    looks: Looks | None
    pictures: np.ndarray | None  # uint8 (B, size_px, size_px, 3)
    motion: Motion
    strength: Tensor | None  # (B,) of faces that are pasted


@dataclass(frozen=True)
class _Made:
    """What became of B faces: uint8 (B, size_px, size_px, 3), and what else a panel shows of the way there."""

    results: np.ndarray
    steps: dict[str, np.ndarray]


def usual_size_px(compose: Compose, box_height_px: float, framing: Framing) -> int:
    """Side of the square face where none was asked for: that in the picture, where a face is pasted into one."""
    if compose != "paste":
        return SIZE_PX
    side_px = min(max(framing.side_factor * box_height_px, SMALLEST_PX), LARGEST_PX)
    return 2 * round(side_px / 2)


def make_painter(rendering: Rendering, device: str = "cpu") -> PortraitPainter:
    return PortraitPainter(load_model(rendering.model), device, rendering.precision)


def make_renderer(
    rendering: Rendering, device: str = "cpu", painter: PortraitPainter | None = None, faces_per_pass: int | None = None
) -> Renderer:
    """`painter` is made unless one is given; `faces_per_pass` is what suits the device by default."""
    faces_per_pass = faces_per_pass or (CPU_FACES_PER_PASS if device == "cpu" else GPU_FACES_PER_PASS)
    kinds: dict[str, Callable[[Rendering, PortraitPainter, int], Renderer]] = {
        "reenact": Reenactment,
        "frontalize": Frontalization,
        "deidentify": Deidentification,
    }
    return kinds[rendering.kind](rendering, painter or make_painter(rendering, device), faces_per_pass)


class Renderer(ABC):
    """Renders frames in batches; no picture depends on the others of its batch.

    To the bit, because all passes are of one size: of another size, pixels come out different by a grey level.
    """

    def __init__(self, rendering: Rendering, painter: PortraitPainter, faces_per_pass: int) -> None:
        self.rendering, self.painter = rendering, painter
        self.framing = Framing.of(self.painter.model.config)
        self._faces_per_pass = faces_per_pass

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Of a panel's cells: "source", the steps that `make` gives, and "result"."""

    @abstractmethod
    def make(self, faces: _Faces) -> _Made:
        """The faces' pictures."""

    def size(self, width: int | None, height: int | None) -> tuple[int, int]:
        """Width and height of the pictures for frames of this size; None where there are no frames.

        Errors: AssertionError for pasting into no frames.
        """
        if self.rendering.compose == "crop":
            return self.rendering.size_px, self.rendering.size_px
        if self.rendering.compose == "panel":
            return panel_size(len(self.labels), self.rendering.size_px)
        assert width is not None
        assert height is not None
        return width, height

    def render(self, moments: Sequence[Moment]) -> list[np.ndarray]:
        """A picture uint8 RGB for each; what has no face to show is gray, or the frame itself where it is pasted."""
        is_pasted = self.rendering.compose == "paste"
        places: dict[tuple[int, float], int] = {}  # of faces to be made, each once
        chosen: list[Moment] = []
        keys = [(moment.shown, moment.presence if is_pasted else 1.0) for moment in moments]
        for key, moment in zip(keys, moments, strict=True):
            if moment.box is not None and key[1] > 0 and key not in places:
                places[key] = len(chosen)
                chosen.append(moment)
        size = self._faces_per_pass
        made = []
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size]
            made.append(self.make(self._look(part + part[-1:] * (size - len(part)))))
        return [self._compose(moment, made, places.get(key)) for key, moment in zip(keys, moments, strict=True)]

    def _look(self, moments: Sequence[Moment]) -> _Faces:
        side_px, size_px = self.painter.side_px, self.rendering.size_px
        looks = pictures = None
        if all(moment.face_image is not None for moment in moments):
            crops, pictures = (np.stack([self._cut(m, side) for m in moments]) for side in (side_px, size_px))
            looks = self.painter.look(crops)
        if any(moment.code is None for moment in moments):
            assert looks is not None
            read = self.painter.codes(looks)
        codes = [
            read[place] if moment.code is None else torch.from_numpy(moment.code).to(self.painter.device)
            for place, moment in enumerate(moments)
        ]
        strength = None
        if self.rendering.compose == "paste":
            strength = torch.tensor([moment.presence for moment in moments], dtype=torch.float32)
        return _Faces(looks, pictures, self.painter.motion(torch.stack(codes)), strength)

    def _cut(self, moment: Moment, side_px: int) -> np.ndarray:
        assert moment.face_image is not None
        assert moment.box is not None
        return crop_face(moment.face_image, crop_affine(moment.box, side_px, self.framing), side_px)

    def _compose(self, moment: Moment, all_made: Sequence[_Made], face: int | None) -> np.ndarray:
        size_px = self.rendering.size_px
        made = None if face is None else all_made[face // self._faces_per_pass]
        place = None if face is None else face % self._faces_per_pass
        if self.rendering.compose == "paste":
            return self.paste(moment, None if made is None or place is None else made.results[place])
        if self.rendering.compose == "crop":
            if made is None or place is None:
                return np.full((size_px, size_px, 3), 128, np.uint8)
            return made.results[place]
        cells: dict[str, np.ndarray | None] = dict.fromkeys(self.labels)
        if made is not None and place is not None:
            cells |= {label: pictures[place] for label, pictures in made.steps.items()}
            cells |= {"result": made.results[place]}
            if moment.face_image is not None:
                cells["source"] = self._cut(moment, size_px)
        return draw_panel(self.labels, list(cells.values()), size_px)

    def paste(self, moment: Moment, face: np.ndarray | None) -> np.ndarray:
        """The frame with `face` in it, whose motion fades towards the border, so that no edge shows."""
        assert moment.image is not None
        if face is None or moment.box is None:
            return moment.image
        return paste_face(moment.image, face, self._affine(moment.box), mask=square_mask(len(face)))

    def _affine(self, box: np.ndarray) -> np.ndarray:
        return crop_affine(box, self.rendering.size_px, self.framing)

    def _bytes(self, pictures: Tensor) -> np.ndarray:
        """uint8 (B, size_px, size_px, 3) of (B, 3, height, width) in [0, 1]."""
        size_px = self.rendering.size_px
        if pictures.shape[-1] != size_px:
            pictures = F.interpolate(pictures, size=(size_px, size_px), mode="bilinear", align_corners=False)
        return (pictures.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def _show(self, target: Target) -> Portraits:
        """A target's portrait."""
        side_px, size_px = self.painter.side_px, self.rendering.size_px
        crop, picture = (
            crop_face(target.picture, crop_affine(target.box, side, self.framing), side)[None]
            for side in (side_px, size_px)
        )
        looks = self.painter.look(crop)
        motion = self.painter.motion(self.painter.codes(looks))
        return self.painter.portraits(looks, picture, motion, self.rendering.neutral)


class Reenactment(Renderer):
    """The target with the motion of the source's face (section 3.6)."""

    labels = ("source", "target", "flow", "neutral", "result")

    def __init__(self, rendering: Rendering, painter: PortraitPainter, faces_per_pass: int) -> None:
        super().__init__(rendering, painter, faces_per_pass)
        assert rendering.target is not None
        self._target, self._portrait = rendering.target, self._show(rendering.target)
        self._reference: Motion | None = None
        if rendering.reference is not None:
            self._reference = self.painter.motion(torch.from_numpy(rendering.reference)[None])

    def size(self, width: int | None, height: int | None) -> tuple[int, int]:
        height, width = self._target.picture.shape[:2]
        return super().size(width, height)

    def make(self, faces: _Faces) -> _Made:
        motion, num = faces.motion, len(faces.motion)
        portraits = self._portrait.expand(num)
        reference = None if self._reference is None else self._reference.expand(num)
        results = self._bytes(self.painter.reenact(portraits, motion, reference, faces.strength))
        if self.rendering.compose != "panel":
            return _Made(results, {})
        steps = {
            "target": self._bytes(portraits.picture),
            "flow": self._bytes(color_flow(motion.backward)),
            "neutral": self._bytes(denormalize(portraits.neutral)),
        }
        return _Made(results, steps)

    def paste(self, moment: Moment, face: np.ndarray | None) -> np.ndarray:
        """Into the target's picture, not the source's."""
        picture, box = self._target.picture, self._target.box
        if face is None:
            return picture
        return paste_face(picture, face, self._affine(box), mask=square_mask(len(face)))


class Frontalization(Renderer):
    """Every face without its motion: frontal, neutral (section 3.5)."""

    labels = ("source", "flow", "neutral", "result")

    def make(self, faces: _Faces) -> _Made:
        assert faces.looks is not None
        assert faces.pictures is not None
        portraits = self.painter.portraits(faces.looks, faces.pictures, faces.motion, self.rendering.neutral)
        results = self._bytes(self.painter.frontalize(portraits, faces.strength))
        steps = {
            "flow": self._bytes(color_flow(faces.motion.forward)),
            "neutral": self._bytes(denormalize(portraits.neutral)),
        }
        return _Made(results, steps)


class Deidentification(Renderer):
    """Every face's motion on the face of another or the model's mean face; the networks' own (equation 10) if none."""

    labels = ("source", "flow", "result")

    def __init__(self, rendering: Rendering, painter: PortraitPainter, faces_per_pass: int) -> None:
        super().__init__(rendering, painter, faces_per_pass)
        target = rendering.target or load_mean_face(rendering.model, self.framing)
        self._portrait = None if target is None or rendering.mask != "face" else self._show(target)

    def render(self, moments: Sequence[Moment]) -> list[np.ndarray]:
        if self.rendering.mask == "face":
            return super().render(moments)
        return [self._hide(moment) for moment in moments]

    def _hide(self, moment: Moment) -> np.ndarray:
        assert moment.image is not None
        if moment.box is None or moment.presence <= 0:
            return moment.image
        return hide_face(moment.image, moment.box, is_blurred=self.rendering.mask == "blur")

    def make(self, faces: _Faces) -> _Made:
        assert faces.looks is not None
        if self._portrait is not None:
            made = self.painter.reenact(self._portrait.expand(len(faces.motion)), faces.motion)
        else:
            size_px = self.rendering.size_px
            made = self.painter.deidentify(faces.looks, faces.motion, (size_px, size_px))
        return _Made(self._bytes(made), {"flow": self._bytes(color_flow(faces.motion.backward))})

    def paste(self, moment: Moment, face: np.ndarray | None) -> np.ndarray:
        """Into the frame, in its colors; what is around the face stays."""
        assert moment.image is not None
        if face is None or moment.box is None:
            return moment.image
        size_px = self.rendering.size_px
        framing = Framing(self.framing.side_factor / COVERING, self.framing.center)
        mask = soft_mask(size_px, framing, COVERING_SOFTNESS)
        face = match_color(face, self._cut(moment, size_px), mask)
        return paste_face(moment.image, face, self._affine(moment.box), moment.presence, mask)
