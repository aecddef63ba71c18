"""How well faces are rebuilt, from their own neutral face and from that of another frame of the clip, and how much
people still differ in their neutral and in their mean faces."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcvideo.clips.store import ClipStore
from fcvideo.errors import InputError
from fcvideo.evaluation.features import CPU_BATCH_SIZE, resize
from fcvideo.evaluation.features import Pictures as PictureSource
from fcvideo.evaluation.frechet import Inception, Moments, frechet_distance
from fcvideo.evaluation.pictures import reframe
from fcvideo.faces.crop import Framing
from fcvideo.models.facecycle import FaceCycle, denormalize, normalize
from fcvideo.training.losses import ssim
from fcvideo.training.stages import swap_pairs

MEASURED = ("own_neutral", "pair_neutral", "pair_picture")


class ClipPictures:
    """The pictures of a store of clips one by one, in its order; `clips` and `people` (N,) say whose they are.

    What `prepare` cut wider than `framing` is cut to it, as training does; ready crops are taken as they are
    unless `crop_factor` says how wide they are.
    """

    def __init__(self, store: ClipStore, framing: Framing | None = None, crop_factor: float | None = None) -> None:
        self.store = store
        self.clips = np.repeat(np.arange(len(store)), store.clip_lengths)
        self.people = np.repeat(store.persons, store.clip_lengths)
        self._first = np.cumsum(store.clip_lengths) - store.clip_lengths
        self._framing = framing
        self._crop_factor = crop_factor or store.metadata.get("framing", {}).get("side_factor")

    def __len__(self) -> int:
        return len(self.clips)

    def image(self, index: int) -> Image.Image:
        """The face crop in RGB. Errors: InputError naming the picture."""
        clip = int(self.clips[index])
        position = index - int(self._first[clip])
        try:
            picture = Image.open(io.BytesIO(self.store.frames(clip, [position])[0])).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three on damaged files
            message = f"{self.store.path}: picture {position} of clip {clip} cannot be read ({error})"
            raise InputError(message) from None
        if self._framing is None or self._crop_factor is None:
            return picture
        return reframe(picture, self._crop_factor, self._framing)


@dataclass(frozen=True)
class Likeness:
    """Means over faces; pictures in [0, 1]."""

    l1: float
    ssim: float  # as in training: an 11-pixel Gaussian window of deviation 1.5
    psnr_db: float
    fid: float | None


@dataclass(frozen=True)
class ReconstructionResult:
    """`spread` is the deviation across people (one face each), mean over pixels, of inputs, neutral and mean faces."""

    likeness: dict[str, Likeness]  # of MEASURED
    spread: dict[str, float | None]
    num_faces: int
    num_people: int
    fid_missing: str | None  # why there is no FID

    def summary(self) -> dict[str, Any]:
        """As JSON takes it."""
        rows = {name: vars(likeness) for name, likeness in self.likeness.items()}
        found: dict[str, Any] = {"reconstruction": rows, "spread": self.spread}
        found |= {"num_faces": self.num_faces, "num_people": self.num_people}
        return found | ({} if self.fid_missing is None else {"fid_missing": self.fid_missing})


def measure_reconstruction(
    model: FaceCycle,
    pictures: PictureSource,
    clips: np.ndarray,
    people: np.ndarray,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    limit: int | None = None,
    inception: Inception | str = "not asked for",
    on_progress: Callable[[int], None] | None = None,
) -> ReconstructionResult:
    """Each face against itself rebuilt, with its own backward flow, from two neutral faces: its own, and its pair's.

    The rival is the pair's picture as it is. `clips` and `people` (N,) say whose the pictures are; `limit` is the
    largest number of pairs. `inception` is a network, or a line on why there is none. The model is moved to `device`.
    Errors: InputError where no clip has two pictures.
    """
    pairs = pair_up(clips, limit)
    if not len(pairs):
        raise InputError(f"found {len(pictures)} pictures, no two of one clip; expected clips of two pictures or more")
    device = torch.device(device)
    model = model.to(device).eval()
    half = max(1, (CPU_BATCH_SIZE if device.type == "cpu" else batch_size) // 2)
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in MEASURED}
    spreads = {name: Spread() for name in ("inputs", "neutral_faces", "mean_faces")}
    moments = {} if isinstance(inception, str) else {name: Moments() for name in ("inputs", *MEASURED[:2])}
    seen: set[int] = set()
    for start in range(0, len(pairs), half):
        rows = pairs[start : start + half].T.ravel()
        faces = make_faces(model, load_faces(pictures, rows, model.config.image_side).to(device))
        for name in MEASURED:
            sums[name] += _likeness(faces[name], faces["inputs"])
        new = [slot for person, slot in _firsts(people[rows]).items() if person not in seen]
        seen.update(people[rows].tolist())
        for name, spread in spreads.items():
            spread.add(faces[name][new])
        for name, moment in moments.items():
            assert not isinstance(inception, str)
            moment.add(inception(faces[name]))
        if on_progress is not None:
            on_progress(2 * min(start + half, len(pairs)))
    fids = {name: frechet_distance(moments["inputs"], moments[name]) for name in MEASURED[:2] if moments}
    likeness = {}
    for name, total in sums.items():
        mean_l1, mean_ssim, mean_psnr_db = (total / (2 * len(pairs))).tolist()
        likeness[name] = Likeness(mean_l1, mean_ssim, mean_psnr_db, fids.get(name))
    spread_of = {name: spread.value() for name, spread in spreads.items()}
    missing = inception if isinstance(inception, str) else None
    return ReconstructionResult(likeness, spread_of, 2 * len(pairs), len(seen), missing)


def _firsts(people: np.ndarray) -> dict[int, int]:
    """The first place of each person."""
    numbers, places = np.unique(people, return_index=True)
    return dict(zip(numbers.tolist(), places.tolist(), strict=True))


def pair_up(clips: np.ndarray, limit: int | None = None) -> np.ndarray:
    """Pairs (P, 2) of pictures half their clip apart, no picture twice; a function of `clips` (N,) and `limit` alone.

    Under a limit, clips take turns, in a fixed random order.
    """
    names, clip = np.unique(clips, return_inverse=True)
    order = np.argsort(clip, kind="stable")
    lengths = np.bincount(clip, minlength=len(names))
    first = np.cumsum(lengths) - lengths
    half = lengths // 2
    owner = np.repeat(np.arange(len(names)), half)
    turn = np.arange(half.sum()) - np.repeat(np.cumsum(half) - half, half)
    place = first[owner] + turn
    pairs = np.stack([order[place], order[place + half[owner]]], axis=1)
    if limit is None or limit >= len(pairs):
        return pairs
    shuffled = np.random.default_rng(0).permutation(len(names))
    return pairs[np.sort(np.lexsort((shuffled[owner], turn))[:limit])]


def load_faces(pictures: PictureSource, rows: np.ndarray, side_px: int) -> Tensor:
    """Normalized (B, 3, S, S)."""
    faces = np.stack([resize(pictures.image(int(row)), side_px) for row in rows])
    return normalize(torch.from_numpy(faces).permute(0, 3, 1, 2))


@torch.inference_mode()
def make_faces(model: FaceCycle, images: Tensor) -> dict[str, Tensor]:
    """All faces (2B, 3, S, S) in [0, 1] that the model makes of normalized pairs, second halves last."""
    expression, identity, _ = model.embed(images, cycle_error=False)
    forward, backward = model.flows(expression)
    neutral = model.neutral_face(images, forward)
    made = {
        "inputs": images,
        "neutral_faces": neutral,
        "mean_faces": model.mean_face(neutral, identity),
        "own_neutral": model.re_express(neutral, backward),
        "pair_neutral": model.re_express(swap_pairs(neutral), backward),
        "pair_picture": swap_pairs(images),
    }
    return {name: denormalize(faces) for name, faces in made.items()}


class Spread:
    """Deviation of each pixel over pictures in [0, 1], that are shown a few at a time."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, faces: Tensor) -> None:
        faces = faces.double().cpu()
        self._count += len(faces)
        self._sum = self._sum + faces.sum(0)
        self._squares = self._squares + faces.square().sum(0)

    def value(self) -> float | None:
        """Mean over pixels and channels; None for fewer than two pictures."""
        if self._count < 2:
            return None
        variance = self._squares / self._count - (self._sum / self._count) ** 2
        return float(variance.clamp_min(0).sqrt().mean())


def _likeness(found: Tensor, target: Tensor) -> Tensor:
    """(3,): sums over faces of L1, SSIM and PSNR in dB."""
    difference = found - target
    l1 = difference.abs().mean(dim=(1, 2, 3))
    error = difference.square().mean(dim=(1, 2, 3)).clamp_min(1e-10)  # equal pictures: 100 dB
    return torch.stack([l1, ssim(found, target), -10 * error.log10()]).sum(dim=1).double().cpu()
