"""Has the missing pieces of all outputs rendered, on whatever engine, and every output finished with its last piece."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from typing import Any

from fcvideo.assembly.joining import Finishing
from fcvideo.assembly.render_local import RenderPool
from fcvideo.assembly.segment_plan import OrderPlan
from fcvideo.config import RenderSettings
from fcvideo.rendering.segment import Piece, Rendered, SegmentRenderer
from fcvideo.running.cluster import ray_cluster
from fcvideo.running.placement import choose_engine
from fcvideo.running.progress import Reporter
from fcvideo.running.throughput import Meter

Finished = tuple[OrderPlan, dict[str, Any]]  # and what is to be said of it


class Execution:
    """The second half of a rendering job. Its first process starts at once, so that its imports run beside the first
    half; it is kept, as a cluster that is joined is, as long as `stack`.
    """

    def __init__(
        self,
        settings: RenderSettings,
        gpus: int,
        renderer: type[SegmentRenderer],
        reporter: Reporter,
        stack: ExitStack,
    ) -> None:
        self._settings, self._gpus, self._renderer = settings, gpus, renderer
        self._reporter, self._stack = reporter, stack
        self._pool: RenderPool | None = None
        if settings.engine != "ray" and settings.address is None:
            self._pool = stack.enter_context(RenderPool(renderer, gpus, settings.workers))

    def run(self, plans: Sequence[OrderPlan], finishing: Finishing) -> Iterator[Finished]:
        """Every output, when it is finished. Errors: OutputError."""
        by_name = {plan.order.name: plan for plan in plans}
        missing = [piece for plan in plans for piece in plan.missing()]
        meter = Meter({(p.output, p.segment.index): by_name[p.output].spans[p.segment.index] for p in missing})
        num_done = sum(len(plan.rendered) for plan in plans)
        if num_done and missing:
            self._reporter.say(f"{num_done} segments are there from an earlier run, {len(missing)} are missing")
        self._reporter.begin("rendering", meter.total_seconds)
        meter.on_change = self._reporter.update
        progress = _Progress(by_name, finishing)
        for plan in plans:
            progress.submit_if_whole(plan.order.name)
        with closing(self._render(missing, meter)) as engine:
            for rendered in engine:
                meter.add((rendered.output, rendered.segment), rendered.num_frames, rendered.num_faces)
                progress.add(rendered)
                yield from progress.finished()
        yield from progress.finished(is_last=True)
        self._reporter.end()

    def _render(self, pieces: Sequence[Piece], meter: Meter) -> Generator[Rendered]:
        """A receipt for every piece."""
        if not pieces:
            return
        if self._pool is not None:
            if choose_engine(self._settings, self._gpus, meter.total_seconds) == "local":
                yield from self._pool.render(
                    pieces, lambda piece, progress: meter.tick((piece.output, piece.segment.index), *progress)
                )
                return
            self._pool.close()
        from fcvideo.assembly.render_ray import render_ray

        self._stack.enter_context(ray_cluster(self._settings.address, self._gpus))
        yield from render_ray(pieces, self._renderer, self._gpus, self._settings.workers)


class _Progress:
    """Which outputs have all their segments, and which of these are being joined."""

    def __init__(self, plans: dict[str, OrderPlan], finishing: Finishing) -> None:
        self._plans, self._finishing = plans, finishing
        self._receipts = {name: dict(plan.rendered) for name, plan in plans.items()}
        self._running: dict[str, Future[dict[str, Any]]] = {}

    def add(self, rendered: Rendered) -> None:
        self._receipts[rendered.output][rendered.segment] = rendered
        self.submit_if_whole(rendered.output)

    def submit_if_whole(self, name: str) -> None:
        if len(self._receipts[name]) == len(self._plans[name].pieces):
            self._running[name] = self._finishing.submit(self._plans[name], self._receipts[name])

    def finished(self, *, is_last: bool = False) -> Iterator[Finished]:
        """Those that are finished by now, and were not before; with `is_last` it waits for all."""
        for name in list(self._running):
            if is_last or self._running[name].done():
                yield self._plans[name], self._running.pop(name).result()
