"""`fcvideo embed`: videos in, one table of face codes out. Decides what is missing, has an engine do it, compacts.

inputs -> plans -> segments -> [read, find, crop] -> [encode, write a part] -> compaction -> table
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from fcvideo import __version__
from fcvideo.config import EmbedSettings
from fcvideo.errors import InputError, OutputError
from fcvideo.models.store import ModelRef, open_model
from fcvideo.running.placement import choose_engine, choose_precision, claim_gpus
from fcvideo.running.progress import Reporter
from fcvideo.survey.encoding import Encoding, error_precision
from fcvideo.survey.ledger import UNFAILED, Ledger, VideoState
from fcvideo.survey.reading import FaceReader
from fcvideo.survey.spans import missing_seconds
from fcvideo.survey.survey import USUAL_SCALES, Survey, make_looking
from fcvideo.tables.parts import Begun, Parts, inputs_key, video_key
from fcvideo.tables.result import Result
from fcvideo.video.inputs import Source, resolve_inputs

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
        self.settings, self.stack = settings, stack
        self.reporter = stack.enter_context(Reporter(settings.progress))
        self.sources = _videos(resolve_inputs(settings.inputs, settings.limit, say=self.reporter.say))
        self.result = Result(settings.out)
        self.parts = Parts(self.result.parts_folder)
        self.model = open_model(settings.model)
        self.gpus = claim_gpus(settings, stack)
        precision = choose_precision(settings, self.gpus)
        device = "cuda" if self.gpus else "cpu"
        rough = error_precision(precision, device, is_free=settings.precision == "auto")
        encoding = Encoding(
            model=str(self.model.folder),
            precision=precision,
            batch_size=settings.batch_size,
            cycle_error=settings.cycle_error,
            error_precision=rough,
            parts_folder=self.parts.folder.absolute(),
        )
        self.identity = _identity(settings, self.model, precision, rough)
        looking = make_looking(settings, self.model.config, settings.fps)
        self.survey = Survey(settings, reader, looking, encoding, self.gpus, self.reporter, stack)

    def run(self) -> dict[str, Any]:
        ledger = self._open_ledger()
        states = self.survey.plan(self.sources, ledger, keep=not self.settings.dry_run)
        engine = choose_engine(self.settings, self.gpus, missing_seconds(states))
        if self.settings.dry_run:
            return self._describe_plan(states, engine)
        rows = [state.carried_row for state in states if state.carried_row is not None]
        if len(rows) < len(states):
            self.survey.run(states, engine, "embedding")
            rows = self._write(ledger, states)
        self.parts.remove(video_key(state.source.name) for state in states)
        return self._summarize(rows)

    def _open_ledger(self) -> Ledger:
        """Refuses what must not be touched; unless this is a dry run, takes the place, and looks at it again then."""
        inputs = inputs_key(source.name for source in self.sources)
        overwrite = self.settings.overwrite
        begun = self.parts.begun(self.identity, inputs, overwrite=overwrite)
        earlier = self._earlier(begun)
        if not self.settings.dry_run:
            begun = self.parts.claim(self.identity, inputs, overwrite=overwrite)
            self.stack.callback(self.parts.release)
            earlier = self._earlier(begun)
        is_fresh = overwrite and not begun.is_resumed
        return Ledger(self.parts, earlier, is_fresh, retries_failed=self.settings.retry == "failed")

    def _earlier(self, begun: Begun) -> dict[str, dict[str, Any]]:
        """Rows of the videos that stay in the table. Errors: OutputError where it is not to be touched."""
        if begun.replaces:
            return {}
        self.result.check(self.identity, is_resumed=begun.is_resumed)
        earlier = self.result.videos()
        if others := sorted(earlier.keys() - {source.name for source in self.sources}):
            raise OutputError(
                f"{self.settings.out}: holds {len(others)} videos that are not among these inputs, such as "
                f"{others[0]}; name them too, choose another --out, or --overwrite"
            )
        return earlier

    def _write(self, ledger: Ledger, states: list[VideoState]) -> list[dict[str, Any]]:
        self.reporter.begin("writing", len(states))
        metadata = {"model": self.model.name, "model_revision": self.model.revision, **self.identity}
        rows = self.result.write(
            list(ledger.results(states)),
            self.model.config.code_dim,
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
            "video_seconds": round(missing_seconds(states), 3),
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


def _videos(sources: Sequence[Source]) -> list[Source]:
    """Errors: InputError for a table, whose JPEG bytes FFmpeg would take for a video."""
    for source in sources:
        if source.path.lower().endswith(".parquet"):
            raise InputError(f"{source.path}: found a table, expected a video; prepare and train take tables of crops")
    return list(sources)


def _identity(settings: EmbedSettings, model: ModelRef, precision: str, error_precision: str) -> dict[str, Any]:
    """Whatever decides what the rows say. The batch size is left out: it moves a code by less than 1e-5."""
    return {
        "version": __version__,
        "model_hash": model.hash,
        "fps": settings.fps,
        "start": settings.start,
        "duration": settings.duration,
        "min_face": settings.min_face,
        "score": settings.score,
        "scales": USUAL_SCALES,
        "precision": precision,
        "cycle_error": error_precision if settings.cycle_error else None,
    }
