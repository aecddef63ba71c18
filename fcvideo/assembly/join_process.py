"""What else opens files of unknown origin, in a process of its own: it looks for targets, and makes outputs whole.

Where there is no target, the process never loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcvideo.atomic import written_atomically
from fcvideo.faces.fit import Choice
from fcvideo.video.container import on_packet
from fcvideo.video.inputs import Source
from fcvideo.video.join import Joined, join_segments
from fcvideo.video.provenance import Mark


class Finisher:
    """Each method is a question to the process."""

    def __init__(self) -> None:
        self.tick: Callable[[Any], None] = lambda progress: None
        on_packet(lambda: self.tick(None))

    def find_target(
        self, source: Source, choice: Choice, model: str, min_face_px: int, score: float, path: Path
    ) -> str | None:
        """Writes a target to `path`, for `load_target`; gives a line for the user, if any. Errors: InputError."""
        import torch

        from fcvideo.models.store import load_model
        from fcvideo.rendering.portrait import PortraitPainter
        from fcvideo.rendering.target import TargetFinder

        torch.set_num_threads(1)
        target = TargetFinder(PortraitPainter(load_model(model)), min_face_px, score).find(source, choice)
        pts_seconds = np.nan if target.pts_seconds is None else target.pts_seconds
        with written_atomically(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, name=target.name, picture=target.picture, box=target.box, pts_seconds=pts_seconds)
        return target.note

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
