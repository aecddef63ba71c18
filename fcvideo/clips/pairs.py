"""Training pairs: two pictures of one clip, a pure function of (seed, epoch, clip), so that a restart repeats nothing.

Needs torch, numpy and Pillow alone; the store of clips is handed in.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from fcvideo.clips.augment import Augmentation, draw_affine, draw_color, framing_affine

SHUFFLE_WINDOW = 64  # row groups among which clips are shuffled: what a loader reads together


class Store(Protocol):
    """What pairs need of `fcvideo.clips.store.ClipStore`."""

    @property
    def clip_lengths(self) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def frames(self, clip: int, positions: Sequence[int] | None = None) -> list[bytes]: ...
    def row_group(self, clip: int) -> int: ...


class Pair(NamedTuple):
    images: Tensor  # uint8 (2, 3, S, S), as stored
    affine: Tensor  # float32 (2, 2, 3), see `augment.apply`
    color: Tensor  # float32 (2, 3, 4), the same for both


@dataclass(frozen=True)
class PairRule:
    """How the second picture is made: the first one flipped, or another frame of the clip."""

    flip_probability: float
    augmentation: Augmentation
    stored_side_px: int = 96
    side_factor: float = 1.45
    stored_side_factor: float = 1.45
    center: tuple[float, float] = (0.50, 0.40)


class ClipPairs(Dataset[Pair]):
    """Indexed by (epoch, clip). Decoded pictures are kept up to `cache_bytes`, so that a small set is decoded once."""

    def __init__(self, store: Store, rule: PairRule, seed: int, cache_bytes: int = 1 << 30) -> None:
        self.store, self.rule, self.seed = store, rule, seed
        self._framing = framing_affine(rule.side_factor, rule.stored_side_factor, rule.center)
        self._cache: dict[tuple[int, int], np.ndarray] = {}
        self._room = cache_bytes // (3 * rule.stored_side_px**2)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, key: tuple[int, int]) -> Pair:
        epoch, clip = key
        rng = np.random.default_rng([self.seed, epoch, clip])
        num_frames = int(self.store.clip_lengths[clip])
        mirror = rng.uniform() < self.rule.flip_probability or num_frames == 1
        first, second = (0, 0) if num_frames == 1 else rng.choice(num_frames, size=2, replace=False)
        flip = rng.uniform() < 0.5
        color = draw_color(rng, self.rule.augmentation).astype(np.float32)
        affines = [
            self._framing @ draw_affine(rng, self.rule.augmentation, flip ^ (mirror and position == 1))
            for position in range(2)
        ]
        images = [self._picture(clip, int(first)), self._picture(clip, int(first if mirror else second))]
        return Pair(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.stack(affines)[:, :2].astype(np.float32)),
            torch.from_numpy(np.stack([color, color])),
        )

    def _picture(self, clip: int, position: int) -> np.ndarray:
        """uint8 (3, S, S)."""
        if (picture := self._cache.get((clip, position))) is None:
            picture = decode_jpeg(self.store.frames(clip, [position])[0], self.rule.stored_side_px)
            if len(self._cache) < self._room:
                self._cache[clip, position] = picture
        return picture


def decode_jpeg(data: bytes, side_px: int) -> np.ndarray:
    """uint8 (3, side_px, side_px) RGB; a gray picture gets three equal channels."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if picture.size != (side_px, side_px):
        picture = picture.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


class PairSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, clip) for one rank, from `first_step` on, for ever.

    Every rank takes its own stretch of the same global batch, so that ranks together see what one rank would.
    """

    def __init__(
        self, store: Store, num_pairs: int, seed: int, first_step: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        assert num_pairs % world_size == 0
        self.store, self.num_pairs, self.seed, self.first_step = store, num_pairs, seed, first_step
        share = num_pairs // world_size
        self.share = slice(rank * share, (rank + 1) * share)
        self._groups = np.array([store.row_group(clip) for clip in range(len(store))])

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = steps_per_epoch(len(self.store), self.num_pairs)
        step = self.first_step
        while True:
            epoch, position = divmod(step, per_epoch)
            order = self._epoch_order(epoch)
            while position < per_epoch:
                batch = np.take(order, range(position * self.num_pairs, (position + 1) * self.num_pairs), mode="wrap")
                yield [(epoch, int(clip)) for clip in batch[self.share]]
                position += 1
                step += 1

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """All clips once: row groups in random order, clips shuffled among each window of row groups."""
        rng = np.random.default_rng([self.seed, epoch])
        groups = np.unique(self._groups)
        rank_of_group = np.empty(groups.max() + 1, dtype=np.int64)
        rank_of_group[rng.permutation(groups)] = np.arange(len(groups))
        window = rank_of_group[self._groups] // SHUFFLE_WINDOW
        return np.lexsort([rng.uniform(size=len(window)), window])


def steps_per_epoch(num_clips: int, num_pairs: int) -> int:
    """One pair per clip and epoch; the rest that does not fill a batch is left out."""
    return max(1, num_clips // num_pairs)
