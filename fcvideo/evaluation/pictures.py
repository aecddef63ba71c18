"""Pictures of labelled data sets, decoded one at a time, and the faces cut from those that are whole pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fcvideo.errors import InputError
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector, Faces

SURE_SCORE, WEAK_SCORE = 0.7, 0.3
Source = bytes | Path | np.ndarray


@dataclass(frozen=True)
class Pictures:
    """`sources`: encoded bytes, a file, or pixels uint8 (H, W) or (H, W, 3)."""

    names: Sequence[str]
    sources: Sequence[Source]
    are_crops: bool = True  # ready face crops, taken as they are; else whole pictures, whose face must be found

    def __len__(self) -> int:
        return len(self.sources)

    def image(self, index: int) -> Image.Image:
        """The upright picture in RGB. Errors: InputError naming the picture."""
        source = self.sources[index]
        if isinstance(source, np.ndarray):
            return Image.fromarray(source).convert("RGB")
        try:
            picture = Image.open(source if isinstance(source, Path) else io.BytesIO(source))
            return ImageOps.exif_transpose(picture).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three on damaged files
            raise InputError(f"{self.names[index]}: not a picture that can be read ({error})") from None

    def subset(self, indices: Sequence[int] | np.ndarray) -> Pictures:
        chosen = [int(i) for i in indices]
        return replace(self, names=[self.names[i] for i in chosen], sources=[self.sources[i] for i in chosen])


@dataclass(frozen=True)
class LabelledSet:
    pictures: Pictures
    labels: np.ndarray  # (N,) int64, positions in `classes`
    classes: tuple[str, ...]
    groups: np.ndarray | None = None  # (N,) of str: person or clip, where known

    def subset(self, indices: np.ndarray) -> LabelledSet:
        groups = None if self.groups is None else self.groups[indices]
        return LabelledSet(self.pictures.subset(indices), self.labels[indices], self.classes, groups)


@dataclass(frozen=True)
class PoseSet:
    pictures: Pictures
    angles_deg: np.ndarray  # (N, 3) float64: yaw, pitch, roll
    num_skipped: int = 0  # rows without angles, or with angles beyond the data set's protocol
    groups: np.ndarray | None = None  # (N,) of str: person or clip, where known

    def subset(self, indices: np.ndarray) -> PoseSet:
        groups = None if self.groups is None else self.groups[indices]
        return PoseSet(self.pictures.subset(indices), self.angles_deg[indices], self.num_skipped, groups)


@dataclass(frozen=True)
class PairSet:
    pictures: Pictures
    first: np.ndarray  # (P,) int64, positions in `pictures`
    second: np.ndarray  # (P,) int64
    same: np.ndarray  # (P,) bool: one person
    folds: np.ndarray  # (P,) int64, 0 to 9


@dataclass
class FaceCrops:
    """The faces of whole pictures, cropped as the networks see them; ready crops pass as they are.

    Ready crops whose side is known to be `crop_factor` heights of the face's box, the face where the framing has it,
    are cut to the framing. Of several faces the one nearest the picture's centre is taken, among those at least half
    as high as the highest. Without any, the picture's central square is.
    """

    pictures: Pictures
    framing: Framing
    crop_factor: float | None = None
    side_px: int = 128
    without_face: set[int] = field(default_factory=set)  # positions of the pictures seen so far in which none was found

    def __post_init__(self) -> None:
        # Every picture of a data set is known to hold a face, so that a weak detection is better than none.
        self._detect = None if self.pictures.are_crops else FaceDetector(score_threshold=WEAK_SCORE)

    def __len__(self) -> int:
        return len(self.pictures)

    def image(self, index: int) -> Image.Image:
        """The face crop in RGB. Errors: InputError naming the picture."""
        picture = self.pictures.image(index)
        if self._detect is None:
            return picture if self.crop_factor is None else reframe(picture, self.crop_factor, self.framing)
        pixels = np.array(picture)
        faces = self._detect([pixels])[0]
        if not len(faces):
            self.without_face.add(index)
            return ImageOps.fit(picture, (self.side_px, self.side_px))
        box = faces.boxes[_central(faces, picture.width, picture.height)]
        return Image.fromarray(crop_face(pixels, crop_affine(box, self.side_px, self.framing), self.side_px))


class WithMirrored:
    """Pictures, and behind them all of them mirrored."""

    def __init__(self, faces: FaceCrops) -> None:
        self.faces = faces

    @property
    def without_face(self) -> set[int]:
        return {index % len(self.faces) for index in self.faces.without_face}

    @property
    def pictures(self) -> Pictures:
        return self.faces.pictures

    def __len__(self) -> int:
        return 2 * len(self.faces)

    def image(self, index: int) -> Image.Image:
        picture = self.faces.image(index % len(self.faces))
        return picture if index < len(self.faces) else ImageOps.mirror(picture)


def reframe(picture: Image.Image, side_factor: float, framing: Framing) -> Image.Image:
    """A crop of `side_factor` box heights cut to `framing`'s; one that is tighter already stays as it is."""
    ratio = framing.side_factor / side_factor
    if ratio >= 1:
        return picture
    side = ratio * picture.width
    left, top = (center * (picture.width - side) for center in framing.center)
    size = (round(side), round(side))
    return picture.resize(size, Image.Resampling.BILINEAR, (left, top, left + side, top + side))


def _central(faces: Faces, width: int, height: int) -> int:
    """Position of the face that the picture is of; weak detections count where there are no others."""
    centers = faces.boxes[:, :2] + faces.boxes[:, 2:] / 2
    distances = np.hypot(centers[:, 0] - width / 2, centers[:, 1] - height / 2)
    sure = faces.scores >= SURE_SCORE if faces.scores.max() >= SURE_SCORE else np.ones(len(faces), bool)
    heights = np.where(sure, faces.boxes[:, 3], 0)
    return int(np.argmin(np.where(heights >= heights.max() / 2, distances, np.inf)))
