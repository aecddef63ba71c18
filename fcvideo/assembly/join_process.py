"""What else opens files of unknown origin, in a process of its own: it looks for targets, and makes outputs whole.

Where there is no target, the process never loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcvideo.video.inputs import Source
from fcvideo.video.join import Joined, join_segments
from fcvideo.video.provenance import Mark


class Finisher:
    """Each method is a question to the process."""

    def __init__(self) -> None:
        self.tick: Callable[[Any], None] = lambda progress: None

    def find_target(
        self, source: Source, time_seconds: float | None, model: str, min_face_px: int, score: float, path: Path
    ) -> None:
        """Writes a target to `path`, for `load_target`. Errors: InputError."""
        import torch

        from fcvideo.models.store import load_model
        from fcvideo.rendering.portrait import PortraitPainter
        from fcvideo.rendering.target import TargetFinder

        torch.set_num_threads(1)
        target = TargetFinder(PortraitPainter(load_model(model)), min_face_px, score).find(source, time_seconds)
        pts_seconds = np.nan if target.pts_seconds is None else target.pts_seconds
        with path.open("wb") as file:
            np.savez(file, name=target.name, picture=target.picture, box=target.box, pts_seconds=pts_seconds)

    def join(
        self,
        parts: Sequence[Path],
        out: Path,
        sound: Source | None,
        captions: Source | None,
        mark: Mark,
        is_excerpt: bool,
    ) -> Joined:
        """Errors: VideoError, OutputError."""
        return join_segments(parts, out, sound=sound, captions=captions, mark=mark, is_excerpt=is_excerpt)
