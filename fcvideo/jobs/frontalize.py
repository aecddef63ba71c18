"""`fcvideo frontalize`: every face turned to the front, without its expression."""

from __future__ import annotations

from typing import Any

from fcvideo.assembly.orders import altered, seen_sources
from fcvideo.assembly.render import render
from fcvideo.assembly.task import Stages, Task
from fcvideo.config import FrontalizeSettings
from fcvideo.running.progress import Reporter


def frontalize(settings: FrontalizeSettings, stages: Stages | None = None) -> dict[str, Any]:
    """Makes an output of every input; gives the summary. Errors: UsageError's children."""
    sources = seen_sources(settings.inputs, settings.out, settings.limit, Reporter(settings.progress).say)
    place, orders = altered(sources, None, settings.inputs, settings.out)
    task = Task("frontalize", place, orders, compose=settings.compose or "crop", neutral=settings.neutral)
    return render(settings, task, stages or Stages())
