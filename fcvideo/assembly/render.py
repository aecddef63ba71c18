"""What `reenact`, `frontalize` and `deidentify` do once it is clear what they make of what.

sources -> rows of faces (`survey`) -> a motion plan each -> pieces -> rendered segments -> joined outputs
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcvideo import __version__
from fcvideo.assembly.execution import Execution
from fcvideo.assembly.joining import UNJOINED, Finishing, joined_counts
from fcvideo.assembly.motion_source import SourceRows, Window, rows_of_parts
from fcvideo.assembly.names import Ids
from fcvideo.assembly.orders import Order
from fcvideo.assembly.record import Records, output_key
from fcvideo.assembly.segment_plan import OrderPlan, PlannedSource, plan_order, plan_source
from fcvideo.assembly.task import Stages, Task, known_fingerprint, read_point, refuse_idle
from fcvideo.atomic import too_long
from fcvideo.config import RenderSettings
from fcvideo.errors import InputError, SettingsError, VideoError
from fcvideo.faces.cover import WEAK_SCORE
from fcvideo.faces.crop import Framing
from fcvideo.models.store import load_model, open_model
from fcvideo.rendering.motion_plan import Wish
from fcvideo.rendering.portrait import PortraitPainter
from fcvideo.rendering.renderer import SIZE_PX, Rendering
from fcvideo.running.placement import choose_engine, choose_precision, claim_gpus
from fcvideo.running.progress import Reporter
from fcvideo.survey.encoding import Encoding
from fcvideo.survey.ledger import UNFAILED, WORTH_ANOTHER_TRY, Ledger, VideoState
from fcvideo.survey.spans import missing_seconds
from fcvideo.survey.survey import USUAL_SCALES, Survey, make_looking
from fcvideo.tables.parts import Begun, Parts, inputs_key, video_key
from fcvideo.video.inputs import Source
from fcvideo.video.provenance import Mark
from fcvideo.video.write import Coding

if TYPE_CHECKING:
    from fcvideo.faces.detect import Scales

FAILURES_SHOWN = 20
BAD_TARGET = "bad_target"  # status of an output whose target shows no face
COUNTS = ("frames", "faces", "held", "missing", "lost", "others")
COVER_COUNTS = ("frames", "faces_replaced", "frames_held", "frames_at_risk", "lost", "others")
SPANS_SHOWN = 20


Looked = dict[str, tuple[VideoState | None, SourceRows]]  # sources by key; a table's have no state


def render(settings: RenderSettings, task: Task, stages: Stages) -> dict[str, Any]:
    """Makes the outputs that are not there yet; gives the summary. Goes on where a run stopped.

    Errors: UsageError's children. What is wrong with one of several inputs is told, and makes the exit code 3.
    """
    with ExitStack() as stack:
        return _Run(settings, task, stages, stack).run()


class _Run:
    def __init__(self, settings: RenderSettings, task: Task, stages: Stages, stack: ExitStack) -> None:
        self.started = time.monotonic()
        self.settings, self.task, self.stages, self.stack = settings, task, stages, stack
        refuse_idle(settings, task)
        self.coding = Coding(settings.codec, Coding.crf if settings.crf is None else settings.crf, settings.lossless)
        self.window = Window(settings.start, settings.duration)
        self.model = open_model(settings.model)
        self.gpus = claim_gpus(settings, stack)
        self.precision = choose_precision(settings, self.gpus)
        self.wish = Wish(settings.face, read_point(settings.at), settings.smooth_codes, False, task.is_relative)
        if settings.face is not None and settings.at is not None:
            raise SettingsError("--face and --at: found both, expected one of them")
        self.scales: Scales = "two" if task.kind == "deidentify" else USUAL_SCALES
        if task.covers:
            self.wish = replace(self.wish, cover_score=settings.score)
        self.counts = COVER_COUNTS if task.covers else COUNTS
        self.parts = Parts(task.place.parts_folder.absolute())
        self.identity = self._identity()
        self.reporter = stack.enter_context(Reporter(settings.progress))
        self.sources = {order.source.key: order.source for order in task.orders}
        self.ids: dict[str, Ids] = {}  # of what each output to be made is made of
        self.rows: dict[str, dict[str, Any]] = {}  # of outputs that are done or have failed

    def _identity(self) -> dict[str, Any]:
        """Whatever decides what the pictures look like, but for what they are made of."""
        settings, task = self.settings, self.task
        shows_mean_face = task.kind == "deidentify" and any(order.target is None for order in task.orders)
        names = ("size", "face", "at", "smooth_codes", "audio", "codec", "lossless", "start", "duration")
        return {
            "version": __version__,
            "command": task.kind,
            "model_hash": self.model.hash,
            "mean_face": self.model.mean_face_hash if shows_mean_face else None,
            "compose": task.compose,
            "neutral": task.neutral,
            "mask": task.mask,
            "scales": self.scales,
            "is_relative": task.is_relative,
            "target": asdict(task.choice),
            "precision": self.precision,
            "crf": self.coding.crf,
            **{name: getattr(settings, name) for name in (*names, "min_face", "score")},
        }

    def run(self) -> dict[str, Any]:
        is_dry, overwrite = self.settings.dry_run, self.settings.overwrite
        inputs = inputs_key(order.name for order in self.task.orders)
        self._open_records(self.parts.begun(self.identity, inputs, overwrite=overwrite))
        if not is_dry:
            begun = self.parts.claim(self.identity, inputs, overwrite=overwrite)
            self.stack.callback(self.parts.release)
            self._open_records(begun)
        orders = self._open_orders()
        if is_dry:
            return self._describe(orders)
        if not orders:
            self.reporter.say("nothing to do: every result is there")
        try:
            if orders:
                self._make(orders)
        except InputError:  # what is here would stand in the way of the right command, unless some is rendered
            if not any(self.records.has_results(order) for order in self.task.orders):
                self.parts.remove(self._keys(self.task.orders))
                if self.task.place.is_folder:
                    with suppress(OSError):  # it is not empty
                        self.task.place.path.rmdir()
            raise
        return self._close()

    def _open_records(self, begun: Begun) -> None:
        self.is_fresh = self.settings.overwrite and not begun.is_resumed
        self.records = Records(self.task.place, self.parts, self.identity, is_fresh=self.is_fresh)

    def _make(self, orders: Sequence[Order]) -> None:
        # What needs seconds to start, starts now.
        execution = Execution(self.settings, self.gpus, self.stages.renderer, self.reporter, self.stack)
        survey = None if all(order.source.is_table for order in orders) else self._survey()
        mark = Mark(self.task.kind, self.model.name, self.model.hash, __version__, self.task.compose == "paste")
        has_sound = self.settings.audio == "copy"
        finishing = Finishing(
            self.stages.finisher, mark, has_sound=has_sound, is_excerpt=self.window.is_excerpt, stack=self.stack
        )
        targets = self._find_targets(orders, finishing)
        sources = self._look_at(self._still_wanted(orders), survey)
        plans = self._plan(self._still_wanted(orders), sources, targets, mark)
        for plan, values in execution.run(plans, finishing):
            self._keep(plan.order, values)

    def _still_wanted(self, orders: Sequence[Order]) -> list[Order]:
        return [order for order in orders if order.name not in self.rows]

    def _open_orders(self) -> list[Order]:
        """The outputs that are still to be made; unless this is a dry run, with room for their parts."""
        known_ids: dict[str, str | VideoError] = {}
        orders = []
        for order in self.task.orders:
            if problem := too_long(order.path):
                self._fail(order, "error", f"{order.path}: {problem}; rename the input, or render it alone with --out")
                continue
            ids: Ids = {}
            try:
                ids["source"] = known_fingerprint(order.source.source, known_ids)
                ids["target"] = None if order.target is None else known_fingerprint(order.target, known_ids)
            except VideoError as error:
                self._fail(order, error.status, str(error))
                continue
            row = self.records.finished(order, ids)
            if row is not None:
                self.rows[order.name] = row
                continue
            orders.append(order)
            self.ids[order.name] = ids
        if self.settings.dry_run:
            return orders
        for order in orders:
            try:
                self.records.begin(order, self.ids[order.name])
            except VideoError as error:
                self._fail(order, error.status, str(error))
        for order in self._still_wanted(orders):
            if order.path.is_dir():
                self._fail(order, "error", f"{order.path}: found a folder of this name, expected room for a file")
        if self.is_fresh:
            self.records.forget(orders)
        return self._still_wanted(orders)

    def _find_targets(self, orders: Sequence[Order], finishing: Finishing) -> dict[Source, Path]:
        """Files of all targets. Errors: InputError for the only one."""
        settings, is_only = self.settings, len({order.target for order in self.task.orders}) == 1
        folder = self.parts.folder / ".targets"
        folder.mkdir(exist_ok=True)
        files: dict[Source, Path] = {}
        for target in dict.fromkeys(order.target for order in orders if order.target is not None):
            path = folder / f"{video_key(target.name)}.npz"
            try:
                note = finishing.find_target(
                    target, self.task.choice, str(self.model.folder), settings.min_face, settings.score, path
                )
                files[target] = path
                if note is not None:
                    self.reporter.say(note)
            except (InputError, VideoError) as error:
                if is_only:
                    raise InputError(str(error)) from None
                for order in orders:
                    if order.target == target:
                        self._fail(order, BAD_TARGET, str(error))
        return files

    def _survey(self) -> Survey:
        encoding = Encoding(
            model=str(self.model.folder),
            precision=self.precision,
            batch_size=None,
            cycle_error=False,
            error_precision=self.precision,
            parts_folder=self.parts.folder,
        )
        score = min(self.settings.score, WEAK_SCORE) if self.task.covers else None
        looking = make_looking(self.settings, self.model.config, score=score, scales=self.scales)
        return Survey(self.settings, self.stages.reader, looking, encoding, self.gpus, self.reporter, self.stack)

    def _look_at(self, orders: Sequence[Order], survey: Survey | None) -> Looked:
        """The rows of all sources; outputs of what cannot be read fail."""
        found: Looked = {}
        videos = []
        for source in {order.source.key: order.source for order in orders}.values():
            if source.is_table:
                found[source.key] = None, self.task.tables[source.source.path].rows(source.source.name, self.window)
            else:
                videos.append(source.source)
        if survey is None or not videos:
            return found
        ledger = Ledger(self.parts, {})
        states = survey.plan(videos, ledger, keep=True, is_thorough=True)
        survey.run(states, choose_engine(self.settings, self.gpus, missing_seconds(states)), "looking")
        survey.close()
        for state, result in zip(states, ledger.results(states), strict=True):
            if result.row["status"] in UNFAILED and result.parts:
                found[state.source.name] = state, rows_of_parts(result.parts)
            else:
                status = result.row["status"] if result.row["status"] not in UNFAILED else "no_frames"
                self._fail_all(state.source.name, status, result.row["error"] or "found no frame in this stretch")
        return found

    def _plan(
        self,
        orders: Sequence[Order],
        sources: Looked,
        targets: dict[Source, Path],
        mark: Mark,
    ) -> list[OrderPlan]:
        settings, task = self.settings, self.task
        planned = self._plan_sources(orders, sources)
        rendering = Rendering(
            kind=task.kind,
            model=str(self.model.folder),
            precision=self.precision,
            compose=task.compose,
            size_px=settings.size or SIZE_PX,
            neutral=task.neutral,
            mask=task.mask,
        )
        framing = Framing.of(self.model.config)
        return [
            plan_order(
                order,
                planned[order.source.key],
                rendering,
                None if order.target is None else targets[order.target],
                self.records.folder(order),
                self.coding,
                mark,
                usual_framing=None if settings.size else framing,
            )
            for order in self._still_wanted(orders)
        ]

    def _plan_sources(self, orders: Sequence[Order], sources: Looked) -> dict[str, PlannedSource]:
        painter = None
        if self.task.is_relative:
            painter = PortraitPainter(
                load_model(str(self.model.folder)), "cuda" if self.gpus else "cpu", self.precision
            )
        planned = {}
        self.reporter.begin("choosing faces", len(sources))
        for done, source in enumerate({order.source.key: order.source for order in orders}.values(), start=1):
            state, rows = sources[source.key]
            wish = replace(self.wish, has_codes=source.is_table or self.settings.smooth_codes > 0)
            try:
                planned[source.key] = plan_source(source, state, rows, wish, self.parts.folder, painter)
            except InputError as error:  # the face that was asked for is not there
                if len(self.sources) == 1:
                    raise InputError(f"{source.source.name}: {error}") from None
                self._fail_all(source.key, "no_face", str(error))
            except VideoError as error:
                self._fail_all(source.key, error.status, str(error))
            self.reporter.update(done)
        self.reporter.end()
        return planned

    def _fail_all(self, source_key: str, status: str, error: str) -> None:
        for order in self.task.orders:
            if order.source.key == source_key and order.name not in self.rows:
                self._fail(order, status, error)

    def _fail(self, order: Order, status: str, error: str) -> None:
        self._keep(order, {"status": status, "error": error})

    def _keep(self, order: Order, values: dict[str, Any]) -> None:
        ids = self.ids.get(order.name)
        row = {
            "output": order.name,
            "source": order.source.source.name,
            "target": None if order.target is None else order.target.name,
            **dict.fromkeys(self.counts, 0),
            **UNJOINED,
            **values,
            "ids": ids,
            "owner": order.owner,
        }
        self.rows[order.name] = row
        if ids is not None:
            self.records.finish(order, row)

    def _close(self) -> dict[str, Any]:
        """The record on the disk, parts of what needs nothing more removed; the summary."""
        rows = [UNJOINED | self.rows[order.name] for order in self.task.orders]
        self.records.close(rows)
        self.parts.remove(self._keys([order for order in self.task.orders if not self._is_open(order)]))
        return self._summarize(rows)

    def _is_open(self, order: Order) -> bool:
        """Whether the same command again could go on with what there is of it."""
        if self.rows[order.name]["status"] not in WORTH_ANOTHER_TRY or not self.parts.folder.is_dir():
            return False
        return self.records.has_results(order) or bool(self.parts.finished(video_key(order.source.key)))

    def _keys(self, closed: Sequence[Order]) -> list[str]:
        """Parts folders of outputs, and of sources that no other output needs."""
        names = {order.name for order in closed}
        needed = {order.source.key for order in self.task.orders if order.name not in names}
        return [output_key(order) for order in closed] + [video_key(key) for key in self.sources.keys() - needed]

    def _summarize(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        failed = [row for row in rows if row["status"] != "ok"]
        for row in failed[:FAILURES_SHOWN]:
            self.reporter.say(f"{row['source']}: {row['status']}: {row['error']}")
        if len(failed) > FAILURES_SHOWN:
            self.reporter.say(f"and {len(failed) - FAILURES_SHOWN} more, see {self.task.place.record_path}")
        at_risk = [(row["output"], *span) for row in rows for span in row.get("at_risk", ())]
        if at_risk:
            num_frames = sum(row["frames_at_risk"] for row in rows)
            self.reporter.say(
                f"in {num_frames} frames a face may be seen: look at them before you share "
                f"({len(at_risk)} stretches, all in {self.task.place.record_path})"
            )
        if self.task.kind == "deidentify" and (others := sum(row["others"] for row in rows)):
            self.reporter.say(
                f"{others} faces, counted by frame, are other people's and stay as they are (--face, --at)"
            )
        return {
            "outputs": len(rows) - len(failed),
            **{name: sum(row[name] for row in rows) for name in self.counts},
            **({"at_risk": at_risk[:SPANS_SHOWN]} if self.task.covers else {}),
            **joined_counts(rows, is_excerpt=self.window.is_excerpt),
            "failed": len(failed),
            "seconds": round(time.monotonic() - self.started, 3),
            "out": str(self.task.place.path),
            "exit_code": 3 if failed or at_risk else 0,
        }

    def _describe(self, orders: Sequence[Order]) -> dict[str, Any]:
        """What a dry run says."""
        videos = list({order.source.key: order.source.source for order in orders if not order.source.is_table}.values())
        states = []
        if videos:
            ledger = Ledger(self.parts, {}, is_fresh=self.is_fresh)
            states = self._survey().plan(videos, ledger, keep=False, is_thorough=True)
        spans = {state.source.name: state for state in states}
        wanted = {order.name for order in orders}
        for order in self.task.orders:
            state = spans.get(order.source.key)
            status = "done before" if order.name not in wanted else "to do" if state is None else state.known["status"]
            self.reporter.say(f"{order.path}: {status}")
        return {
            "dry_run": True,
            "outputs": len(self.task.orders),
            "to_do": len(orders),
            "segments": sum(state.num_segments for state in states),
            "gpus": self.gpus,
            "out": str(self.task.place.path),
            "exit_code": 0,
        }
