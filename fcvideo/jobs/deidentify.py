"""`fcvideo deidentify`: the expression of every face kept, its identity replaced by the mean face or another's."""

from __future__ import annotations

from typing import Any

from fcvideo.assembly.orders import altered, one_target, seen_sources
from fcvideo.assembly.render import render
from fcvideo.assembly.task import Stages, Task
from fcvideo.config import DeidentifySettings
from fcvideo.errors import SettingsError
from fcvideo.faces.fit import Choice
from fcvideo.running.progress import Reporter


def deidentify(settings: DeidentifySettings, stages: Stages | None = None) -> dict[str, Any]:
    """Makes an output of every input; gives the summary. Errors: UsageError's children."""
    compose = settings.compose or "paste"
    if settings.mask != "face" and (settings.identity is not None or compose != "paste"):
        other = "--identity" if settings.identity is not None else f"--compose {compose}"
        raise SettingsError(f"--mask {settings.mask}: found {other} too, which is for --mask face; leave one out")
    sources = seen_sources(settings.inputs, settings.out, settings.limit, Reporter(settings.progress).say)
    target = None if settings.identity is None else one_target(settings.identity)
    place, orders = altered(sources, target, settings.inputs, settings.out)
    choice = Choice(is_forced=settings.force)
    task = Task("deidentify", place, orders, compose=compose, mask=settings.mask, choice=choice)
    return render(settings, task, stages or Stages())
