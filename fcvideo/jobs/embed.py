"""`fcvideo embed`: videos in, one table of face codes out. Decides what is missing, has an engine do it, compacts.

inputs -> plans -> segments -> [read, find, crop] -> [encode, write a part] -> compaction -> table
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from fcvideo import __version__
from fcvideo.config import EmbedSettings
from fcvideo.errors import InputError, OutputError, SettingsError
from fcvideo.faces.crop import Framing
from fcvideo.jobs.cluster import cluster_gpus, ray_cluster
from fcvideo.jobs.devices import count_cores, resolve_gpus
from fcvideo.jobs.encoding import Encoding, Written
from fcvideo.jobs.ledger import UNFAILED, Ledger, VideoState
from fcvideo.jobs.meter import Meter
from fcvideo.jobs.pipeline_local import run_local
from fcvideo.jobs.progress import Reporter
from fcvideo.jobs.reader_process import ReaderPool
from fcvideo.jobs.reading import FaceReader, Looking
from fcvideo.models.facecycle import FaceCycleConfig
from fcvideo.models.store import load_config, locate_model, model_hash
from fcvideo.tables.parts import Parts, video_key
from fcvideo.tables.result import Result
from fcvideo.video.inputs import Source, resolve_inputs

# Ray needs 15 to 25 s to start, and pays where there is more to use than this process can: GPUs, or many cores.
SMALL_PLAN_SECONDS, SMALL_PLAN_SECONDS_ON_ONE_DEVICE = 600.0, 7200.0
MANY_CORES = 8
FAILURES_SHOWN = 20


def embed(settings: EmbedSettings, reader: type[FaceReader] = FaceReader) -> dict[str, Any]:
    """Writes the table `settings.out` and the videos table beside it; gives the summary. Goes on where one stopped.

    Errors: UsageError's children. What is wrong with a video is told in its row, and makes the exit code 3.
    """
    with ExitStack() as stack:
        return _Run(settings, reader, stack).run()


class _Run:
    def __init__(self, settings: EmbedSettings, reader: type[FaceReader], stack: ExitStack) -> None:
        self.started = time.monotonic()
        self.settings, self.reader, self.stack = settings, reader, stack
        self.sources = [_nameable(source) for source in resolve_inputs(settings.inputs, settings.limit)]
        self.result = Result(settings.out)
        self.parts = Parts(self.result.parts_folder)
        self.config = load_config(settings.model)
        self.gpus = self._resolve_gpus()
        self.looking = _looking(settings, self.config)
        # As many readers as cores: where the encoder is the slower one, they wait for it.
        self.pool = stack.enter_context(ReaderPool(reader, self.looking, settings.workers or count_cores()))
        self.encoding = Encoding(
            model=str(locate_model(settings.model).absolute()),
            precision=_precision(settings, self.gpus),
            batch_size=settings.batch_size,
            cycle_error=settings.cycle_error,
            is_error_rough=settings.precision == "auto",
            parts_folder=self.parts.folder.absolute(),
        )
        self.identity = _identity(settings, self.encoding.precision)
        self.reporter = stack.enter_context(Reporter(settings.progress))

    def _resolve_gpus(self) -> int:
        settings = self.settings
        if settings.address is not None:
            if settings.engine == "local":
                raise SettingsError("--address and --engine local exclude each other")
            self.stack.enter_context(ray_cluster(settings.address))
            return resolve_gpus(settings.gpus, cluster_gpus(), f"the cluster at {settings.address}")
        gpus = resolve_gpus(settings.gpus)
        if settings.engine == "local" and gpus > 1:
            if settings.gpus is not None:
                raise SettingsError(f"--gpus {gpus}: --engine local uses one; go on with --gpus 1, or --engine ray")
            return 1
        return gpus

    def run(self) -> dict[str, Any]:
        ledger = self._open_ledger()
        states = self._plan(ledger)
        engine = self._choose_engine(states)
        if self.settings.dry_run:
            return self._describe_plan(states, engine)
        rows = [state.carried_row for state in states if state.carried_row is not None]
        if len(rows) < len(states):
            self._execute(states, engine)
            rows = self._write(ledger, states)
        self.parts.remove(video_key(state.source.name) for state in states)
        return self._summarize(rows)

    def _open_ledger(self) -> Ledger:
        """Refuses what must not be touched; unless this is a dry run, takes the place."""
        settings = self.settings
        earlier: dict[str, dict[str, Any]] = {}
        if not settings.overwrite:
            is_resumed = self.parts.check(self.identity)
            if not self.parts.run().get("replaces"):
                self.result.check(self.identity, is_resumed=is_resumed)
                earlier = self.result.videos()
        if others := sorted(earlier.keys() - {source.name for source in self.sources}):
            raise OutputError(
                f"{settings.out}: holds {len(others)} videos that are not among these inputs, such as {others[0]}; "
                "name them too, choose another --out, or --overwrite"
            )
        if not settings.dry_run:
            self.parts.claim(self.identity, overwrite=settings.overwrite)
            self.stack.callback(self.parts.release)
        return Ledger(self.parts, earlier, is_fresh=settings.overwrite)

    def _plan(self, ledger: Ledger) -> list[VideoState]:
        self.reporter.begin("planning", len(self.sources))
        states: list[VideoState] = []
        for plan in self.pool.plan([(source, ledger.known_id(source)) for source in self.sources]):
            states.append(ledger.enter(plan, keep=not self.settings.dry_run))
            self.reporter.update(len(states), videos=len(states))
        self.reporter.end()
        order = {source.name: position for position, source in enumerate(self.sources)}
        return sorted(states, key=lambda state: order[state.source.name])

    def _choose_engine(self, states: list[VideoState]) -> str:
        if self.settings.engine != "auto":
            return self.settings.engine
        seconds = Meter(states).total_seconds
        has_many = self.gpus > 1 and seconds > SMALL_PLAN_SECONDS
        is_large = seconds > SMALL_PLAN_SECONDS_ON_ONE_DEVICE and count_cores() >= MANY_CORES
        return "ray" if self.settings.address is not None or has_many or is_large else "local"

    def _execute(self, states: list[VideoState], engine: str) -> None:
        meter = Meter(states)
        num_missing = sum(len(state.missing) for state in states)
        num_done = sum(state.num_segments for state in states) - num_missing
        if num_done and num_missing:
            self.reporter.say(f"{num_done} segments are there from an earlier run, {num_missing} are missing")
        self.reporter.begin("embedding", meter.total_seconds)
        meter.on_change = self.reporter.update
        if num_missing:
            for written in self._engine(states, engine, meter):
                meter.add(written)
        self.reporter.end()

    def _engine(self, states: list[VideoState], engine: str, meter: Meter) -> Iterator[Written]:
        work = [(segment, state.known["video_id"]) for state in states for segment in state.missing]
        if engine == "local":
            device, num_threads = ("cuda", 1) if self.gpus else ("cpu", count_cores())
            return run_local(work, self.pool, self.encoding, device, num_threads, meter.tick)
        from fcvideo.jobs.pipeline_ray import run_ray

        self.pool.close()
        self.stack.enter_context(ray_cluster(self.settings.address, self.gpus))
        return run_ray(work, self.reader, self.looking, self.encoding, self.gpus, self.settings.workers)

    def _write(self, ledger: Ledger, states: list[VideoState]) -> list[dict[str, Any]]:
        self.reporter.begin("writing", len(states))
        metadata = {"model": self.settings.model, **self.identity}
        rows = self.result.write(
            list(ledger.results(states)),
            self.config.code_dim,
            metadata,
            tick=lambda done: self.reporter.update(done, videos=done),
        )
        self.reporter.end()
        return rows

    def _describe_plan(self, states: list[VideoState], engine: str) -> dict[str, Any]:
        for state in states:
            status = "done before" if state.carried_row else state.known["status"]
            plan = f"{len(state.missing)} of {state.num_segments} segments to do"
            self.reporter.say(f"{state.source.name}: {status}, {plan}")
        return {
            "dry_run": True,
            "videos": len(states),
            "segments": sum(len(state.missing) for state in states),
            "video_seconds": round(Meter(states).total_seconds, 3),
            "engine": engine,
            "gpus": self.gpus,
            "out": self.settings.out,
            "exit_code": 0,
        }

    def _summarize(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        failed = [row for row in rows if row["status"] not in UNFAILED]
        odd = [row for row in rows if row["status"] != "ok"]
        for row in odd[:FAILURES_SHOWN]:
            self.reporter.say(f"{row['video']}: {row['status']}: {row['error']}")
        if len(odd) > FAILURES_SHOWN:
            self.reporter.say(f"and {len(odd) - FAILURES_SHOWN} more, see {self.result.videos_path}")
        return {
            "videos": len(rows),
            "frames": sum(row["num_frames_sampled"] for row in rows),
            "faces": sum(row["num_faces"] for row in rows),
            "tracks": sum(row["num_tracks"] for row in rows),
            "failed": len(failed),
            "damaged": len(odd) - len(failed),
            "seconds": round(time.monotonic() - self.started, 3),
            "out": self.settings.out,
            "videos_out": str(self.result.videos_path),
            "exit_code": 3 if failed else 0,
        }


def _nameable(source: Source) -> Source:
    """A file name that is not valid UTF-8 is written with escapes, for Parquet takes no other text.

    Errors: InputError for a table, whose JPEG bytes FFmpeg would take for a video.
    """
    if source.path.lower().endswith(".parquet"):
        raise InputError(f"{source.path}: found a table, expected a video; prepare and train take tables of crops")
    return replace(source, name=source.name.encode("utf-8", "backslashreplace").decode())


def _looking(settings: EmbedSettings, config: FaceCycleConfig) -> Looking:
    return Looking(
        fps=settings.fps,
        start_seconds=settings.start,
        duration_seconds=settings.duration,
        min_face_px=settings.min_face,
        score_threshold=settings.score,
        side_px=config.image_side,
        framing=Framing(config.framing_side_factor, config.framing_center),
    )


def _precision(settings: EmbedSettings, gpus: int) -> str:
    if settings.precision != "auto":
        return settings.precision
    return "float16" if gpus else "float32"


def _identity(settings: EmbedSettings, precision: str) -> dict[str, Any]:
    """Whatever decides what the rows say. The batch size is left out: it moves a code by less than 1e-5."""
    return {
        "version": __version__,
        "model_hash": model_hash(settings.model),
        "fps": settings.fps,
        "start": settings.start,
        "duration": settings.duration,
        "min_face": settings.min_face,
        "score": settings.score,
        "precision": precision,
        "cycle_error": settings.cycle_error,
    }
