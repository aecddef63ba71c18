"""`fcvideo reenact`: the motion of one face, its expression and head pose, on another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fcvideo.assembly.motion_source import TABLE_SUFFIX, CodeTable
from fcvideo.assembly.orders import MotionSource, read_pairs, reenacted, video_source
from fcvideo.assembly.render import render
from fcvideo.assembly.task import Stages, Task, read_point
from fcvideo.config import ReenactSettings
from fcvideo.errors import SettingsError
from fcvideo.faces.fit import Choice
from fcvideo.models.store import load_config, model_hash
from fcvideo.running.progress import Reporter
from fcvideo.video.inputs import Source, resolve_inputs


def reenact(settings: ReenactSettings, stages: Stages | None = None) -> dict[str, Any]:
    """Makes an output of every source and target, or of those in `pairs`; gives the summary.

    Errors: UsageError's children.
    """
    if not settings.source or not settings.target:
        raise SettingsError("reenact: expected --source and --target, whose motion and whose face")
    if settings.target_face is not None and settings.target_at is not None:
        raise SettingsError("--target-face and --target-at: found both, expected one of them")
    point = read_point(settings.target_at, "target-at")
    choice = Choice(settings.target_time, settings.target_face, point, settings.force)
    limit = None if settings.pairs else settings.limit
    say = Reporter(settings.progress).say
    found = resolve_inputs(settings.source, limit, images=True, say=say)
    tables = _open_tables(found, settings.model)
    sources = [one for source in found for one in _motion_sources(source, tables)]
    targets = resolve_inputs(settings.target, images=True, say=say)
    if settings.pairs:
        pairs = read_pairs(Path(settings.pairs), sources, targets)[: settings.limit]
    else:
        pairs = [(source, target) for source in sources for target in targets]
    place, orders = reenacted(pairs, settings.out)
    task = Task(
        "reenact",
        place,
        orders,
        compose=settings.compose or "paste",
        neutral=settings.neutral,
        is_relative=settings.motion == "relative",
        choice=choice,
        tables=tables,
    )
    return render(settings, task, stages or Stages())


def _open_tables(sources: list[Source], model: str) -> dict[str, CodeTable]:
    """By path. Errors: InputError."""
    paths = [source.path for source in sources if source.path.lower().endswith(TABLE_SUFFIX)]
    return {path: CodeTable(Path(path), model_hash(model), load_config(model).code_dim) for path in paths}


def _motion_sources(source: Source, tables: dict[str, CodeTable]) -> list[MotionSource]:
    table = tables.get(source.path)
    return [video_source(source)] if table is None else table.sources()
