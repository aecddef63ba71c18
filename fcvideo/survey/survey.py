"""Looks at every frame of some videos: rows of boxes and codes, a part per segment, on whatever engine.

What `embed` and the jobs that render have in common. Which rows are wanted is the ledger's to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fcvideo.config import EmbedSettings, RenderSettings
from fcvideo.faces.crop import Framing
from fcvideo.models.facecycle import FaceCycleConfig
from fcvideo.running.cluster import ray_cluster
from fcvideo.running.devices import count_cores
from fcvideo.running.progress import Reporter
from fcvideo.running.throughput import Meter
from fcvideo.survey.encoding import Encoding, Written
from fcvideo.survey.ledger import Ledger, VideoState
from fcvideo.survey.readers import ReaderPool
from fcvideo.survey.reading import FaceReader, Looking
from fcvideo.survey.run_local import run_local
from fcvideo.survey.spans import key_of, missing_spans
from fcvideo.video.inputs import Source

if TYPE_CHECKING:
    from fcvideo.faces.detect import Scales

# Everywhere, a second scale takes 1.37 times as long as one, and 1.00 times where faces are found anyway.
USUAL_SCALES: Scales = "two where weak"


class Survey:
    """`plan` first, then `run`. Its reading processes live as long as `stack`."""

    def __init__(
        self,
        settings: EmbedSettings | RenderSettings,
        reader: type[FaceReader],
        looking: Looking,
        encoding: Encoding,
        gpus: int,
        reporter: Reporter,
        stack: ExitStack,
    ) -> None:
        self._settings, self._reader, self._looking, self._encoding = settings, reader, looking, encoding
        self._gpus, self._reporter, self._stack = gpus, reporter, stack
        # As many readers as cores: where the encoder is the slower one, they wait for it.
        self._pool = stack.enter_context(ReaderPool(reader, looking, settings.workers or count_cores()))

    def plan(
        self, sources: Sequence[Source], ledger: Ledger, *, keep: bool, is_thorough: bool = False
    ) -> list[VideoState]:
        """What is known of each source, and which of its segments are missing; `keep` as in `Ledger.enter`.

        `is_thorough` plans finished videos too, so that their states have their segments.
        """
        self._reporter.begin("planning", len(sources))
        states: list[VideoState] = []
        work = [(source, None if is_thorough else ledger.known(source)) for source in sources]
        for plan in self._pool.plan(work):
            states.append(ledger.enter(plan, keep=keep))
            self._reporter.update(len(states), videos=len(states))
        self._reporter.end()
        order = {source.name: position for position, source in enumerate(sources)}
        return sorted(states, key=lambda state: order[state.source.name])

    def run(self, states: Sequence[VideoState], engine: str, phase: str) -> None:
        """Has the missing segments looked at; at the end every one of them has its parts."""
        meter = Meter(missing_spans(states))
        num_missing = sum(len(state.missing) for state in states)
        num_done = sum(state.num_segments for state in states) - num_missing
        if num_done and num_missing:
            self._reporter.say(f"{num_done} segments are there from an earlier run, {num_missing} are missing")
        self._reporter.begin(phase, meter.total_seconds)
        meter.on_change = self._reporter.update
        if num_missing:
            for written in self._engine(states, engine, meter):
                key = written.video, written.segment
                meter.add(key, written.num_frames, written.num_faces, is_last=written.is_last)
        self._reporter.end()

    def close(self) -> None:
        """Ends the reading processes."""
        self._pool.close()

    def _engine(self, states: Sequence[VideoState], engine: str, meter: Meter) -> Iterator[Written]:
        work = [(segment, state.known["video_id"]) for state in states for segment in state.missing]
        if engine == "local":
            device, num_threads = ("cuda", 1) if self._gpus else ("cpu", count_cores())
            return run_local(
                work,
                self._pool,
                self._encoding,
                device,
                num_threads,
                tick=lambda segment, pts_seconds: meter.tick(key_of(segment), pts_seconds),
            )
        from fcvideo.survey.run_ray import run_ray

        self.close()
        self._stack.enter_context(ray_cluster(self._settings.address, self._gpus))
        return run_ray(work, self._reader, self._looking, self._encoding, self._gpus, self._settings.workers)


def make_looking(
    settings: EmbedSettings | RenderSettings,
    config: FaceCycleConfig,
    fps: float | None = None,
    *,
    score: float | None = None,
    scales: Scales = USUAL_SCALES,
) -> Looking:
    """`score` instead of that of the settings."""
    return Looking(
        fps=fps,
        start_seconds=settings.start,
        duration_seconds=settings.duration,
        min_face_px=settings.min_face,
        score_threshold=settings.score if score is None else score,
        side_px=config.image_side,
        framing=Framing.of(config),
        scales=scales,
    )
