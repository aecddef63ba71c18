"""Tables of ready crops as clips, so that `prepare` can put them into shards beside those cut from videos."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fcvideo.clips.shards import Clip
from fcvideo.clips.store import ClipStore

JPEG_QUALITY = 95


def is_crop_table(path: str) -> bool:
    return path.lower().endswith(".parquet")


class CropTable:
    """The clips of a table of ready crops that have `min_frames` or more; others are counted.

    Crops of another side than `side_px` are resized. They are taken to be framed by the rule of `faces.crop`, for what
    they were cut from is not there to ask: times and boxes are NaN. Errors: InputError for another kind of table.
    """

    def __init__(self, path: Path, name: str, min_frames: int, side_px: int) -> None:
        self.store = ClipStore(path)
        self.name, self.side_px = name, side_px
        self.kept = np.flatnonzero(self.store.clip_lengths >= min_frames)

    @property
    def num_too_short(self) -> int:
        return len(self.store) - len(self.kept)

    @property
    def num_frames_kept(self) -> int:
        return int(self.store.clip_lengths[self.kept].sum())

    def clips(self) -> Iterator[Clip]:
        for clip in self.kept.tolist():
            frames = [self._fit(jpeg) for jpeg in self.store.frames(clip)]
            yield Clip(
                clip_id=f"{self.name}/{clip:06d}",
                video=self.name,
                person=self.store.person_name(clip),
                frames=frames,
                pts_seconds=[float("nan")] * len(frames),
                frame_index=list(range(len(frames))),
                boxes=np.full((len(frames), 4), np.nan, dtype=np.float32),
            )

    def _fit(self, jpeg: bytes) -> bytes:
        picture = Image.open(io.BytesIO(jpeg))
        if picture.size == (self.side_px, self.side_px):
            return jpeg
        data = io.BytesIO()
        resized = picture.convert("RGB").resize((self.side_px, self.side_px), Image.Resampling.BICUBIC)
        resized.save(data, "JPEG", quality=JPEG_QUALITY)
        return data.getvalue()
