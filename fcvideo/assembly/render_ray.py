"""Renders pieces on several devices or machines: an actor pool of Ray Data, each actor with a process of its own.

So no video can kill an actor, as in `pipeline_ray`.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence

from ray.data import ActorPoolStrategy

from fcvideo.assembly.render_local import RenderProcess, count_processes
from fcvideo.errors import FcvideoError
from fcvideo.rendering.segment import Piece, Rendered, SegmentRenderer
from fcvideo.running.cluster import cluster_cores
from fcvideo.survey.run_ray import Batch, objects, receipts, work_items


def render_ray(
    pieces: Sequence[Piece], renderer: type[SegmentRenderer], gpus: int, workers: int | None
) -> Iterator[Rendered]:
    """A receipt for every piece, from the cluster that is joined."""
    cores = cluster_cores()
    num_actors = min(workers or count_processes(gpus, cores), len(pieces))
    return receipts(
        work_items(pieces).map_batches(
            RenderingActor,
            fn_constructor_args=(renderer, gpus > 0),
            batch_size=None,
            compute=ActorPoolStrategy(size=num_actors),
            num_cpus=min(1.0, cores / num_actors),
            num_gpus=min(1.0, gpus / num_actors) if gpus else None,
        )
    )


class RenderingActor:
    """Pieces in, a receipt for each out."""

    def __init__(self, renderer: type[SegmentRenderer], has_gpu: bool) -> None:
        self._process = RenderProcess(renderer, "cuda" if has_gpu else "cpu")

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for item in batch["work"]:
            yield {"receipt": objects([pickle.dumps(self._receipt(pickle.loads(item)))])}

    def _receipt(self, piece: Piece) -> Rendered | FcvideoError:
        try:
            (rendered,) = self._process.render(piece, tick=lambda *_: None)
            return rendered
        except FcvideoError as error:
            return error
