"""Face readers in processes of their own: whatever a video does to one, there is an answer for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fcvideo.errors import VideoError
from fcvideo.running.worker_process import WorkerPool, WorkerProcess
from fcvideo.survey.reading import Chunk, FaceReader, Looking, VideoPlan, failed_chunk
from fcvideo.text import public_text
from fcvideo.video.inputs import Source
from fcvideo.video.probe import Edition
from fcvideo.video.segments import Segment

Tick = Callable[[Segment, float], None]  # a segment, and how far its reader has come in presentation time


class ReaderProcess(WorkerProcess):
    """One process with a reader. `plan` and `read` answer for what it does, even if it dies."""

    def __init__(self, reader: type[FaceReader], looking: Looking) -> None:
        super().__init__(reader, looking)
        self._side_px = looking.side_px

    def plan(self, source: Source, known: Edition | None = None) -> VideoPlan:
        try:
            (plan,) = self.ask("plan", (source, known), lambda _: None)
        except VideoError as error:
            return VideoPlan(source, None, None, (), error.status, public_text(f"{source.path}: {error}"))
        return plan

    def read(self, segment: Segment, video_id: str, tick: Tick) -> Iterator[Chunk]:
        num_chunks = 0
        try:
            for chunk in self.ask("read", (segment, video_id), lambda pts_seconds: tick(segment, pts_seconds)):
                num_chunks += 1
                yield chunk
        except VideoError as error:
            message = f"{segment.source.path}: segment {segment.index + 1} of {segment.num_segments}: {error}"
            yield failed_chunk(segment, video_id, num_chunks, error.status, public_text(message), self._side_px)


class ReaderPool(WorkerPool[ReaderProcess]):
    """Several of them."""

    def __init__(self, reader: type[FaceReader], looking: Looking, size: int) -> None:
        super().__init__(lambda number: ReaderProcess(reader, looking), size)

    def plan(self, work: Sequence[tuple[Source, Edition | None]]) -> Iterator[VideoPlan]:
        return self.spread(work, lambda process, item: iter((process.plan(*item),)))

    def read(self, work: Sequence[tuple[Segment, str]], tick: Tick) -> Iterator[Chunk]:
        return self.spread(work, lambda process, item: process.read(item[0], item[1], tick))
