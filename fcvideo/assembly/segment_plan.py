"""From looked-at sources to pieces: who is shown where, in which motion, and which segments are still to render."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from fcvideo.assembly.motion_source import SourceRows, table_segments
from fcvideo.assembly.orders import MotionSource, Order
from fcvideo.faces.crop import Framing
from fcvideo.rendering.motion_plan import Coverage, Found, MotionPlan, Scene, Wish, plan_motion
from fcvideo.rendering.portrait import PortraitPainter
from fcvideo.rendering.renderer import Rendering, usual_size_px
from fcvideo.rendering.segment import Piece, Rendered, load_target, record_path
from fcvideo.running.throughput import Span
from fcvideo.survey.ledger import VideoState
from fcvideo.survey.spans import span_of
from fcvideo.tables.parts import video_key
from fcvideo.video.provenance import Mark
from fcvideo.video.segments import Segment
from fcvideo.video.write import Coding


@dataclass(frozen=True, eq=False)
class PlannedSource:
    """A source whose faces are known."""

    source: MotionSource
    segments: Sequence[Segment]
    info: Mapping[str, Any]  # what is known of the video, as the videos table names it; empty for a table
    plan_folder: Path
    found: Found

    @property
    def size(self) -> tuple[int, int] | None:
        return None if self.source.is_table else (self.info["width"], self.info["height"])

    @property
    def pixel_aspect(self) -> Fraction:
        return Fraction(self.info.get("pixel_aspect", 1))

    def frames(self, plan: MotionPlan, segment: Segment) -> slice:
        """Positions of a segment's frames in the plan; a source that is read in one go is one segment."""
        if not segment.is_indexed:
            return slice(0, len(plan.frame_index))
        return plan.within(segment.start_pts, segment.end_pts, segment.time_base)


def plan_source(
    source: MotionSource,
    state: VideoState | None,
    rows: SourceRows,
    wish: Wish,
    parts_folder: Path,
    painter: PortraitPainter | None,
) -> PlannedSource:
    """`state` is None for a table. Errors: InputError, VideoError, as `plan_motion`."""
    folder = parts_folder / video_key(source.key) / "motion"
    scene = None if state is None else Scene(state.known["width"], state.known["height"], rows.cuts)
    found = plan_motion(rows.rows, rows.track_ids, wish, folder, painter, scene)
    if state is not None:
        return PlannedSource(source, state.segments, state.known, folder, found)
    segments = list(table_segments(source.source, MotionPlan.load(folder).pts_seconds))
    return PlannedSource(source, segments, {}, folder, found)


@dataclass(frozen=True)
class OrderPlan:
    """One output's pieces: all of them in order, with the receipts of those that are rendered."""

    order: Order
    num_others: int  # faces of the source that stay as they are
    pieces: Sequence[Piece]
    rendered: Mapping[int, Rendered]  # by segment
    spans: Mapping[int, Span]  # by segment, in seconds
    coverage: Coverage | None  # where faces are covered

    def missing(self) -> Iterator[Piece]:
        return (piece for piece in self.pieces if piece.segment.index not in self.rendered)


def plan_order(
    order: Order,
    planned: PlannedSource,
    rendering: Rendering,
    target_file: Path | None,
    folder: Path,
    coding: Coding,
    mark: Mark,
    usual_framing: Framing | None,
) -> OrderPlan:
    """`folder` is that of the output's parts; with `usual_framing`, the model's, the square has its usual size."""
    plan = MotionPlan.load(planned.plan_folder)
    rendering = replace(rendering, reference=planned.found.reference)
    if usual_framing is not None:
        heights = plan.boxes[~np.isnan(plan.boxes[:, 3]), 3]
        height_px = float(np.median(heights)) if len(heights) else 0.0  # in the picture that the face is pasted into
        if rendering.kind == "reenact" and target_file is not None:
            height_px = float(load_target(target_file).box[3])
        rendering = replace(rendering, size_px=usual_size_px(rendering.compose, height_px, usual_framing))
    suffix = order.path.suffix.lower() if planned.source.is_image else ".mp4"
    is_of_source = rendering.compose == "paste" and rendering.kind != "reenact"
    pieces = []
    for segment in planned.segments:
        frames = planned.frames(plan, segment)
        if frames.start < frames.stop:
            pieces.append(
                Piece(
                    output=order.name,
                    segment=segment,
                    frames=frames,
                    plan_folder=planned.plan_folder,
                    size=planned.size,
                    pixel_aspect=planned.pixel_aspect if is_of_source else Fraction(1),
                    rendering=rendering,
                    target_file=target_file,
                    path=folder / f"{segment.index:05d}{suffix}",
                    coding=coding,
                    mark=mark,
                )
            )
    rendered = {}
    for piece in pieces:
        if piece.path.exists() and (record := record_path(piece.path)).exists():
            rendered[piece.segment.index] = Rendered(**json.loads(record.read_text()))
    spans = {piece.segment.index: span_of(piece.segment, planned.info) for piece in pieces}
    return OrderPlan(order, planned.found.num_others, pieces, rendered, spans, planned.found.coverage)
