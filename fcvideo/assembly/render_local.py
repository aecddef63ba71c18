"""Renders pieces in several processes of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fcvideo.errors import VideoError
from fcvideo.rendering.segment import Piece, Rendered, SegmentRenderer
from fcvideo.running.devices import count_cores
from fcvideo.running.worker_process import WorkerPool, WorkerProcess

# A process keeps a GPU busy for a fraction of the time: it also reads and writes videos, on one core.
PROCESSES_PER_GPU = 4
Tick = Callable[[Piece, tuple[float, int]], None]  # a piece; presentation time and number of frames it has come to


class RenderProcess(WorkerProcess):
    """One process that renders. There is a receipt for every piece, even if it dies over it."""

    def __init__(self, renderer: type[SegmentRenderer], device: str) -> None:
        super().__init__(renderer, device)

    def render(self, piece: Piece, tick: Tick) -> Iterator[Rendered]:
        try:
            yield from self.ask("render", (piece,), lambda progress: tick(piece, progress))
        except VideoError as error:
            segment = piece.segment
            message = f"segment {segment.index + 1} of {segment.num_segments}: {error}"
            yield Rendered(piece.output, segment.index, status=error.status, error=message)


def count_processes(gpus: int, cores: int) -> int:
    """Rendering processes: one to a core, but no more than the GPUs can take."""
    return max(gpus, min(cores, PROCESSES_PER_GPU * gpus)) if gpus else cores


class RenderPool(WorkerPool[RenderProcess]):
    """Several of them."""

    def __init__(self, renderer: type[SegmentRenderer], gpus: int, workers: int | None) -> None:
        def start(number: int) -> RenderProcess:
            return RenderProcess(renderer, f"cuda:{number % gpus}" if gpus else "cpu")

        super().__init__(start, workers or count_processes(gpus, count_cores()))

    def render(self, pieces: Sequence[Piece], tick: Tick) -> Iterator[Rendered]:
        """A receipt for every piece, in the order in which they become ready."""
        return self.spread(pieces, lambda process, piece: process.render(piece, tick))
