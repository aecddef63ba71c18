"""Training pairs: two pictures of one clip, a pure function of (seed, epoch, clip), so that a restart repeats nothing.

Needs torch, numpy and Pillow alone; the store of clips is handed in.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from fcvideo.clips.augment import Augmentation, draw_affine, draw_color, framing_affine
from fcvideo.config import PUBLISHED_SIDE_FACTOR

ANOTHER_FRAMING = 0.5  # share of the augmentation's zoom, aspect and shift between two views of a face
SHUFFLE_WINDOW = 64  # row groups among which clips are shuffled: what a loader reads together


class Store(Protocol):
    """What pairs need of `fcvideo.clips.store.ClipStore`."""

    @property
    def clip_lengths(self) -> np.ndarray: ...
    @property
    def persons(self) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def frames(self, clip: int, positions: Sequence[int] | None = None) -> list[bytes]: ...
    def row_group(self, clip: int) -> int: ...


class WithStills:
    """A store of clips with single faces behind them, whose numbers go on where the clips' end."""

    def __init__(self, clips: Store, stills: Store) -> None:
        self.clips, self.stills, self.num_clips = clips, stills, len(clips)
        self.metadata = getattr(clips, "metadata", {})
        self.clip_lengths = np.concatenate([clips.clip_lengths, stills.clip_lengths])
        self.persons = np.concatenate([clips.persons, stills.persons + 1 + clips.persons.max()])
        self._first_group = 1 + max(clips.row_group(clip) for clip in range(len(clips)))

    def __len__(self) -> int:
        return len(self.clip_lengths)

    def frames(self, clip: int, positions: Sequence[int] | None = None) -> list[bytes]:
        store, local = self._locate(clip)
        return store.frames(local, positions)

    def row_group(self, clip: int) -> int:
        store, local = self._locate(clip)
        return store.row_group(local) + (self._first_group if store is self.stills else 0)

    def _locate(self, clip: int) -> tuple[Store, int]:
        return (self.clips, clip) if clip < self.num_clips else (self.stills, clip - self.num_clips)


def count_clips(store: Store) -> int:
    """Clips of a store, without stills behind them."""
    return int(getattr(store, "num_clips", len(store)))


class Pair(NamedTuple):
    images: Tensor  # uint8 (2, 3, S, S), as stored
    affine: Tensor  # float32 (2, 2, 3), see `augment.apply`
    color: Tensor  # float32 (2, 3, 4)
    person: Tensor  # int64 (2,)


@dataclass(frozen=True)
class PairRule:
    """How the second picture is made: the first one flipped, another frame of the clip, or one of the same person."""

    flip_probability: float
    augmentation: Augmentation
    stored_side_px: int = 96
    side_factor: float = PUBLISHED_SIDE_FACTOR
    stored_side_factor: float = PUBLISHED_SIDE_FACTOR
    center: tuple[float, float] = (0.50, 0.40)
    across_clips: bool = False  # the second picture from another clip of the person, where there is one
    same_color: bool = True  # one draw of colors for both pictures
    common_framing: float = 0.0  # share of the augmentation's zoom, aspect and shift that both pictures have alike


class ClipPairs(Dataset[Pair]):
    """Indexed by (epoch, clip). Decoded pictures are kept up to `cache_bytes`, so that a small set is decoded once.

    Stills (`WithStills`) are taken as they are framed.
    """

    def __init__(self, store: Store, rule: PairRule, seed: int, cache_bytes: int = 1 << 30) -> None:
        self.store, self.rule, self.seed = store, rule, seed
        self._framing = framing_affine(rule.side_factor, rule.stored_side_factor, rule.center)
        self._num_clips = count_clips(store)
        self._cache: dict[tuple[int, int], np.ndarray] = {}
        self._room = cache_bytes // (3 * rule.stored_side_px**2)
        self._by_person = np.argsort(store.persons, kind="stable")
        self._sorted_persons = store.persons[self._by_person]

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, key: tuple[int, int]) -> Pair:
        epoch, clip = key
        rng = np.random.default_rng([self.seed, epoch, clip])
        (clip, first), (other, second), mirror = self._choose(rng, clip)
        flip = rng.uniform() < 0.5
        colors = [draw_color(rng, self.rule.augmentation)]
        colors.append(colors[0] if self.rule.same_color else draw_color(rng, self.rule.augmentation))
        framing = self._framing if clip < self._num_clips else np.eye(3)
        spec, common = self.rule.augmentation, self.rule.common_framing
        framing = framing @ draw_affine(rng, spec.framing(common), flip=False)
        own = spec.framing(1 - common, spec.rotation_deg)
        affines = [framing @ draw_affine(rng, own, flip ^ (mirror and position == 1)) for position in range(2)]
        images = [self._picture(clip, first), self._picture(other, second)]
        return Pair(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.stack(affines)[:, :2].astype(np.float32)),
            torch.from_numpy(np.stack(colors).astype(np.float32)),
            torch.from_numpy(self.store.persons[[clip, clip]]),
        )

    def _choose(self, rng: np.random.Generator, clip: int) -> tuple[tuple[int, int], tuple[int, int], bool]:
        """Clip and position in it of both pictures, and whether the second is the first one's mirror image."""
        num_frames = int(self.store.clip_lengths[clip])
        others = self._others(clip) if self.rule.across_clips else ()
        if len(others):
            other = int(rng.choice(others))
            lengths = num_frames, int(self.store.clip_lengths[other])
            first, second = (int(rng.integers(length)) for length in lengths)
            return (clip, first), (other, second), False
        mirror = rng.uniform() < self.rule.flip_probability or num_frames == 1
        first, second = (0, 0) if num_frames == 1 else rng.choice(num_frames, size=2, replace=False)
        return (clip, int(first)), (clip, int(first if mirror else second)), mirror

    def _others(self, clip: int) -> np.ndarray:
        """The same person's other clips."""
        person = self.store.persons[clip]
        start, stop = np.searchsorted(self._sorted_persons, [person, person + 1])
        found = self._by_person[start:stop]
        return found[found != clip]

    def _picture(self, clip: int, position: int) -> np.ndarray:
        """uint8 (3, S, S)."""
        if (picture := self._cache.get((clip, position))) is None:
            picture = decode_jpeg(self.store.frames(clip, [position])[0], self.rule.stored_side_px)
            if len(self._cache) < self._room:
                self._cache[clip, position] = picture
        return picture


def another_view(pair: Pair, augmentation: Augmentation, rng: np.random.Generator) -> Pair:
    """The same pictures (of a batch, too), mirrored and turned as they are, framed a little differently and in other
    colors."""
    spec = augmentation.framing(ANOTHER_FRAMING)
    shape, num = pair.affine.shape[:-2], pair.affine[..., 0, 0].numel()
    moves = np.stack([draw_affine(rng, spec, flip=False) for _ in range(num)]).reshape(*shape, 3, 3)
    colors = np.stack([draw_color(rng, spec) for _ in range(num)]).reshape(*shape, 3, 4)
    return pair._replace(
        affine=pair.affine @ torch.from_numpy(moves.astype(np.float32)),
        color=torch.from_numpy(colors.astype(np.float32)),
    )


def decode_jpeg(data: bytes, side_px: int) -> np.ndarray:
    """uint8 (3, side_px, side_px) RGB; a gray picture gets three equal channels."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if picture.size != (side_px, side_px):
        picture = picture.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


class PairSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, clip) for one rank, from `first_step` on, for ever.

    Of a store `WithStills`, each batch takes `num_stills` of its pairs from the stills. Ranks take their shares of the
    same global batch in turn, two pairs at a time: so neighbours stay neighbours, the first part of all shares is the
    first part of the batch, and ranks together see what one rank would.
    """

    def __init__(
        self,
        store: Store,
        num_pairs: int,
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_stills: int = 0,
    ) -> None:
        assert num_pairs % world_size == 0
        self.seed, self.first_step = seed, first_step
        turn = 2 if num_pairs // world_size % 2 == 0 else 1
        self._own = [place for place in range(num_pairs) if place // turn % world_size == rank]
        num_clips = count_clips(store)
        groups = np.array([store.row_group(clip) for clip in range(len(store))])
        self._clips = _Shuffled(np.arange(num_clips), groups[:num_clips], num_pairs - num_stills, seed)
        self._stills = None
        if num_stills:
            self._stills = _Shuffled(np.arange(num_clips, len(store)), groups[num_clips:], num_stills, seed)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in itertools.count(self.first_step):
            batch = self._clips.batch(step)
            if self._stills is not None:
                both = batch + self._stills.batch(step)
                batch = [both[i] for i in np.random.default_rng([self.seed, step]).permutation(len(both))]
            yield [batch[place] for place in self._own]


class _Shuffled:
    """Numbers in batches, each once an epoch: row groups in random order, shuffled in each window of row groups."""

    def __init__(self, numbers: np.ndarray, groups: np.ndarray, size: int, seed: int) -> None:
        self.numbers, self.groups, self.size, self.seed = numbers, groups - groups.min(), size, seed
        self._order: tuple[int, np.ndarray] | None = None

    def batch(self, step: int) -> list[tuple[int, int]]:
        epoch, position = divmod(step, steps_per_epoch(len(self.numbers), self.size))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._shuffle(epoch)
        places = range(position * self.size, (position + 1) * self.size)
        return [(epoch, int(number)) for number in np.take(self._order[1], places, mode="wrap")]

    def _shuffle(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        groups = np.unique(self.groups)
        rank_of_group = np.empty(groups.max() + 1, dtype=np.int64)
        rank_of_group[rng.permutation(groups)] = np.arange(len(groups))
        window = rank_of_group[self.groups] // SHUFFLE_WINDOW
        return self.numbers[np.lexsort([rng.uniform(size=len(window)), window])]


def steps_per_epoch(num_clips: int, num_pairs: int) -> int:
    """One pair per clip and epoch; the rest that does not fill a batch is left out."""
    return max(1, num_clips // num_pairs)
