"""Renders one segment of one output into a file of its own: the work of a rendering process."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcvideo.atomic import write_json
from fcvideo.errors import FcvideoError, ResourceError, VideoError, describe_error
from fcvideo.rendering.motion_plan import MotionPlan
from fcvideo.rendering.portrait import PortraitPainter
from fcvideo.rendering.renderer import Renderer, Rendering, make_painter, make_renderer
from fcvideo.rendering.segment_frames import Moments, TimedMoment
from fcvideo.rendering.target import Target
from fcvideo.video.container import on_packet
from fcvideo.video.provenance import Mark
from fcvideo.video.segments import Segment
from fcvideo.video.still import write_still
from fcvideo.video.write import Coding, SegmentWriter

FRAMES_PER_BATCH, BYTES_PER_BATCH = 16, 256 << 20  # of the pictures read: 16 of 1080p are 100 MB, of 8K 1.7 GB


@dataclass(frozen=True, eq=False)
class Piece:
    """One segment of one output: all that a worker must know to render it."""

    output: str  # its name
    segment: Segment  # of the source
    frames: slice  # the segment's positions in the motion plan
    plan_folder: Path
    size: tuple[int, int] | None  # width and height of the source's pictures; None for a table
    pixel_aspect: Fraction  # of the pictures to write
    rendering: Rendering  # without its target, which lies in a file
    target_file: Path | None
    path: Path  # of the part to write: a video or, for an image, a picture
    coding: Coding
    mark: Mark


@dataclass(frozen=True)
class Rendered:
    """The receipt for one piece that is on the disk, or, with another status than ok, is not."""

    output: str
    segment: int
    num_frames: int = 0
    num_faces: int = 0  # shown at their own time
    num_held: int = 0  # shown while the face is away
    num_missing: int = 0  # held for so long that a pasted face has faded
    num_lost: int = 0  # could not be decoded: the picture before is repeated
    status: str = "ok"
    error: str | None = None
    seconds: float = 0.0


class SegmentRenderer:
    """Renders pieces on one device. Lives in a process of its own."""

    def __init__(self, device: str) -> None:
        if device == "cpu":
            torch.set_num_threads(1)
        self.device = device
        self.tick: Callable[[tuple[float, int]], None] = lambda progress: None  # presentation time, frames done
        self._progress = (0.0, 0)
        on_packet(lambda: self.tick(self._progress))
        self._painter: tuple[tuple[str, str], PortraitPainter] | None = None
        self._renderer: tuple[tuple[Any, ...], Renderer] | None = None

    def render(self, piece: Piece) -> Rendered:
        """Writes the piece's part, then its record beside it. Errors: UsageError's; a video's are in the receipt."""
        started = time.monotonic()
        self._progress = (float((piece.segment.start_pts or 0) * piece.segment.time_base), 0)
        try:
            counts = self._write(piece)
        except VideoError as error:
            return Rendered(piece.output, piece.segment.index, status=error.status, error=str(error))
        except FcvideoError:
            raise
        except torch.cuda.OutOfMemoryError:
            raise ResourceError(f"{self.device}: its memory is too small; go on with fewer --workers") from None
        except Exception as error:
            return Rendered(piece.output, piece.segment.index, status="error", error=describe_error(error))
        rendered = Rendered(
            piece.output,
            piece.segment.index,
            num_frames=counts.total(),
            num_faces=counts["face"],
            num_held=counts["held"],
            num_missing=counts["missing"],
            num_lost=counts["lost"],
            seconds=round(time.monotonic() - started, 3),
        )
        write_json(record_path(piece.path), asdict(rendered))
        return rendered

    def _write(self, piece: Piece) -> Counter[str]:
        counts: Counter[str] = Counter()
        if piece.path.suffix != ".mp4":
            for timed, picture in self._pictures(piece):
                counts[timed.kind] += 1
                write_still(piece.path, picture, piece.mark)
            return counts
        width, height = self._renderer_of(piece).size(*(piece.size or (None, None)))
        time_base = piece.segment.time_base
        with SegmentWriter(piece.path, width, height, time_base, piece.coding, piece.pixel_aspect) as writer:
            for timed, picture in self._pictures(piece):
                counts[timed.kind] += 1
                writer.write(picture, timed.pts, timed.duration)
                self._progress = (float(timed.pts * time_base), counts.total())
                self.tick(self._progress)
        return counts

    def _pictures(self, piece: Piece) -> Iterator[tuple[TimedMoment, np.ndarray]]:
        renderer = self._renderer_of(piece)
        plans = [MotionPlan.load(piece.plan_folder), *MotionPlan.load_others(piece.plan_folder)]
        is_exact, keys_path = piece.rendering.shows_source, piece.plan_folder / "keys.json"
        frames = Moments(piece.segment, piece.frames, plans, piece.size, is_exact=is_exact, keys_path=keys_path)
        for batch in _batches(frames):
            pictures = renderer.render([timed.moment for timed in batch])
            for number in range(max(len(timed.others) for timed in batch)):  # each into what the one before made
                places = [place for place, timed in enumerate(batch) if number < len(timed.others)]
                moments = [replace(batch[place].others[number], image=pictures[place]) for place in places]
                for place, picture in zip(places, renderer.render(moments), strict=True):
                    pictures[place] = picture
            yield from zip(batch, pictures, strict=True)

    def _renderer_of(self, piece: Piece) -> Renderer:
        """Kept from piece to piece as long as nothing changes, for it takes a moment to make."""
        rendering, is_image = piece.rendering, piece.path.suffix != ".mp4"
        model = rendering.model, rendering.precision
        if self._painter is None or self._painter[0] != model:
            self._painter = model, make_painter(rendering, self.device)
        reference = None if rendering.reference is None else rendering.reference.tobytes()
        key = (model, replace(rendering, reference=None), reference, piece.target_file, is_image)
        if self._renderer is None or self._renderer[0] != key:
            target = None if piece.target_file is None else load_target(piece.target_file)
            self._renderer = (
                key,
                make_renderer(
                    replace(rendering, target=target),
                    self.device,
                    self._painter[1],
                    faces_per_pass=1 if is_image else None,
                ),
            )
        return self._renderer[1]


def record_path(part: Path) -> Path:
    """Where a part's receipt lies; it is written after the part."""
    return part.with_suffix(".json")


def load_target(path: Path) -> Target:
    with np.load(path) as arrays:
        pts_seconds = float(arrays["pts_seconds"])
        return Target(
            str(arrays["name"]), arrays["picture"], arrays["box"], None if np.isnan(pts_seconds) else pts_seconds
        )


def _batches(moments: Iterable[TimedMoment]) -> Iterator[list[TimedMoment]]:
    batch: list[TimedMoment] = []
    num_bytes = 0
    for timed in moments:
        batch.append(timed)
        num_bytes += 0 if timed.moment.image is None else timed.moment.image.nbytes
        if len(batch) == FRAMES_PER_BATCH or num_bytes >= BYTES_PER_BATCH:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
