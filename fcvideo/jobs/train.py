"""`fcvideo train`: one rank in this process, or a rank per GPU (or CPU process) under Ray Train.

The rank's own loop, checkpoints and exact resume are `fcvideo.training.loop`'s; here it is started, watched, restarted.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from fcvideo.atomic import FolderLock, write_json
from fcvideo.clips.pairs import Store, WithStills, count_clips
from fcvideo.clips.shards import UNFINISHED
from fcvideo.clips.store import ClipStore
from fcvideo.config import DEFAULT_MODEL, PrepareSettings, TrainSettings
from fcvideo.errors import FcvideoError, InputError, SettingsError, TrainingError, cannot_be_written, describe_error
from fcvideo.jobs.model_face import write_mean_face
from fcvideo.jobs.prepare import prepare
from fcvideo.models.facecycle import FaceCycleConfig
from fcvideo.models.store import CONFIG, locate_model
from fcvideo.models.vgg import load_vgg
from fcvideo.running.cluster import cluster_cores, cluster_gpus, ray_cluster
from fcvideo.running.devices import resolve_gpus
from fcvideo.running.progress import Reporter
from fcvideo.training import moco
from fcvideo.training.loop import FIRST_PICTURES, LESSON, Rank, run_rank
from fcvideo.training.plan import count_steps, num_stills, resolve_recipe
from fcvideo.training.recipes import Recipe
from fcvideo.video.kind import VIDEO_SUFFIXES

RESULTS = ("checkpoints", "curves", "sheets", "model")  # what a run leaves in OUT, and --overwrite removes
OVERWRITING = ".overwriting.json"  # the settings of a run with --overwrite that is under way
BEFORE_STAGES = {FIRST_PICTURES: "first pictures", LESSON: "lesson"}
POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0  # in which ranks that have all met a fault of ours end by themselves

Report = dict[str, Any]


def train(settings: TrainSettings) -> dict[str, Any]:
    """Trains, or goes on training, what lies in `settings.out`; gives the summary.

    Errors: UsageError's children before anything starts, TrainingError.
    """
    num_gpus = resolve_gpus(settings.gpus) if settings.address is None else None
    for part in settings.data.split(","):
        if not Path(part.strip()).exists():
            raise InputError(f"{part}: no such file or folder; `fcvideo prepare VIDEOS --out {part}` makes clips")
    _check_models(settings)
    with Reporter(settings.progress) as reporter:
        given, settings = settings, _find_data(settings, reporter)
        if settings.dry_run and _holds_videos(settings.data):
            return prepare(_prepare_settings(settings)) | {"prepared_first": True}
        store = open_store(settings)
        with _ranks(settings, num_gpus) as ranks, ExitStack() as ranks_done:
            summary = {"out": given.out, "workers": ranks.num_workers, "device": ranks.device}
            summary |= {
                "clips": count_clips(store),
                "stills": num_stills(store),
                "frames": int(store.clip_lengths.sum()),
                "persons": len(np.unique(store.persons)),
                "exit_code": 0,
            }
            if settings.dry_run:
                return summary | _count_steps(settings, store) | {"dry_run": True}
            lock = FolderLock(Path(settings.out), ".lock")
            lock.take()
            ranks_done.callback(lock.release)
            _begin_folder(settings)
            show = _Show(reporter)
            if ranks.uses_ray:
                found = _train_on_ray(settings, ranks, show)
            else:
                rank = Rank(0, 1, "cuda:0" if ranks.device == "cuda" else "cpu")
                found = _run(settings, store, rank, show.report)
            model = Path(settings.out) / "model"
            if settings.model != moco.NAME and (model / CONFIG).is_file():
                write_mean_face(ClipStore(settings.data, settings.limit), model)
            (Path(settings.out) / OVERWRITING).unlink(missing_ok=True)
        return summary | found | {"model": str(Path(given.out) / "model")}


@dataclasses.dataclass(frozen=True)
class _Ranks:
    num_workers: int
    device: str  # cuda or cpu
    uses_ray: bool


@contextmanager
def _ranks(settings: TrainSettings, num_gpus: int | None) -> Iterator[_Ranks]:
    """How many ranks on what; inside, Ray is up where they need it. `num_gpus` None: those of the cluster.

    Errors: ResourceError, SettingsError.
    """
    if num_gpus is None:
        with ray_cluster(settings.address):
            place = f"the cluster at {settings.address}"
            yield _choose(settings, resolve_gpus(settings.gpus, cluster_gpus(), place), uses_ray=True)
        return
    ranks = _choose(settings, num_gpus, uses_ray=False)
    if ranks.num_workers == 1 or settings.dry_run:
        yield ranks
        return
    with ray_cluster(None, num_gpus):
        yield dataclasses.replace(ranks, uses_ray=True)


def _choose(settings: TrainSettings, num_gpus: int, uses_ray: bool) -> _Ranks:
    if not num_gpus:
        return _Ranks(settings.workers or 1, "cpu", uses_ray)
    if settings.workers is not None:
        raise SettingsError(f"workers: found {settings.workers}, expected none: a GPU has one; --gpus 0 is the CPU")
    return _Ranks(num_gpus, "cuda", uses_ray)


def _check_models(settings: TrainSettings) -> None:
    """Whatever would fail in every rank fails here, at once."""
    _resolve(settings)
    if settings.init is not None:
        locate_model(settings.init)
    elif settings.model != moco.NAME:
        FaceCycleConfig.preset(settings.model or DEFAULT_MODEL)
    load_vgg(settings.vgg)


def _resolve(settings: TrainSettings) -> Recipe:
    return moco.resolve_recipe(settings) if settings.model == moco.NAME else resolve_recipe(settings)


def _run(settings: TrainSettings, store: Store, rank: Rank, on_report: Callable[[dict[str, float]], None]) -> Report:
    run = moco.run_rank if settings.model == moco.NAME else run_rank
    return run(settings, store, Path(settings.out), rank, on_report)


def _find_data(settings: TrainSettings, reporter: Reporter) -> TrainSettings:
    """The settings with paths that hold on every worker, and with clips in place of videos."""
    if _holds_videos(settings.data) and not settings.dry_run:
        preparing = _prepare_settings(settings)
        reporter.say(f"{settings.data}: no clips but videos; cutting their faces into {preparing.out} first")
        found = prepare(preparing)
        if found["failed"]:
            reporter.say(f"{found['failed']} of {found['videos']} videos failed; training on the others")
        settings = dataclasses.replace(settings, data=preparing.out, limit=None)
    files: dict[str, Any] = {"vgg": settings.vgg, "init": settings.init}
    files = {name: str(Path(path).resolve()) for name, path in files.items() if path and Path(path).exists()}
    stills = settings.stills and _absolute(settings.stills)
    out = str(Path(settings.out).resolve())
    return dataclasses.replace(settings, data=_absolute(settings.data), stills=stills, out=out, **files)


def _absolute(paths: str) -> str:
    """Comma-separated paths."""
    return ",".join(str(Path(part.strip()).resolve()) for part in paths.split(","))


def _holds_videos(data: str) -> bool:
    path = Path(data)
    if path.is_dir():
        return not any(path.glob("*.parquet")) and not (path / UNFINISHED).exists()
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _prepare_settings(settings: TrainSettings) -> PrepareSettings:
    return PrepareSettings(
        inputs=(settings.data,),
        out=str(Path(settings.out) / "faces"),
        address=settings.address,
        limit=settings.limit,
        overwrite=settings.overwrite,
        dry_run=settings.dry_run,
        progress=settings.progress,
    )


def open_store(settings: TrainSettings) -> Store:
    """Clips, with the stills behind them where there are any. Errors: InputError."""
    clips = ClipStore(settings.data, settings.limit)
    return WithStills(clips, ClipStore(settings.stills, settings.limit)) if settings.stills else clips


def _count_steps(settings: TrainSettings, store: Store) -> dict[str, Any]:
    recipe = _resolve(settings)
    stage1, stage2 = count_steps(recipe, store)
    return {"steps_stage1": stage1, "steps_stage2": stage2, "batch_size": recipe.batch_size}


def _begin_folder(settings: TrainSettings) -> None:
    """With --overwrite an earlier run's results go, but not what the same command left when it was killed."""
    out = Path(settings.out)
    wanted = {name: str(value) for name, value in dataclasses.asdict(settings).items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not settings.overwrite:
            return
        with suppress(OSError, ValueError):
            if json.loads((out / OVERWRITING).read_text()) == wanted:
                return
        for name in RESULTS:
            if (out / name).exists():
                shutil.rmtree(out / name)
        write_json(out / OVERWRITING, wanted)
    except OSError as error:
        raise cannot_be_written(out, error) from None


class _Show:
    """A rank's reports as a bar per stage and for what comes before, with the losses and images per second."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._stage: int | None = None
        self._num_starts = 0

    def report(self, report: Report) -> None:
        shown = dict(report)
        stage, step, num_steps = (int(shown.pop(name)) for name in ("stage", "step", "num_steps"))
        shown.pop("lr", None)
        counts = {name: shown.pop(name) for name in ("images_per_second", "total") if name in shown}
        if stage != self._stage:
            self._stage = stage
            self._reporter.begin(BEFORE_STAGES.get(stage, f"stage {stage}"), num_steps)
        shown["pictures" if stage == FIRST_PICTURES else "step"] = step
        self._reporter.update(step, **counts, **shown)

    def start(self) -> None:
        """The workers are up; not for the first time, if one of them failed."""
        self._num_starts += 1
        if self._num_starts > 1:
            self._reporter.say("a worker failed; all go on from the newest checkpoint")


def _train_on_ray(settings: TrainSettings, ranks: _Ranks, show: _Show) -> Report:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    is_cuda = ranks.device == "cuda"
    cpu_share = min(1.0, cluster_cores() / ranks.num_workers)
    board: Any = ray.remote(num_cpus=0)(_Board).remote()
    own_files = Path(settings.out) / ".ray"
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config={"settings": settings, "board": board},
        torch_config=TorchConfig(backend="nccl" if is_cuda else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=ranks.num_workers,
            use_gpu=is_cuda,
            resources_per_worker={"CPU": cpu_share, **({"GPU": 1} if is_cuda else {})},
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex,  # Ray's own resume would not be exact; the loop's is
            storage_path=str(own_files),
            failure_config=FailureConfig(max_failures=settings.max_failures),
        ),
    )
    try:
        _watch(_start_thread(trainer.fit), board, show)
    except ray.train.TrainingFailedError as error:
        raise TrainingError(f"workers failed {settings.max_failures + 1} times; {_root_cause(error)}") from error
    except ray.exceptions.RayError as error:
        raise TrainingError(f"Ray Train failed; {_root_cause(error)}") from error
    finally:
        shutil.rmtree(own_files, ignore_errors=True)
    outcome = ray.get(board.outcome.remote())
    if isinstance(outcome, FcvideoError):
        raise outcome
    assert isinstance(outcome, dict), outcome
    return outcome


def _start_thread(call: Callable[[], Any]) -> Future[Any]:
    """Runs `call` aside, so that this thread can show reports and take Ctrl-C."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _watch(fit: Future[Any], board: Any, show: _Show) -> None:
    """Until all ranks are done, or one met a fault of ours: the others may wait for it for ever."""
    import ray

    while True:
        is_done = bool(wait([fit], timeout=POLL_SECONDS).done)
        for report in ray.get(board.take.remote()):
            show.start() if report is None else show.report(report)
        if not is_done and isinstance(ray.get(board.outcome.remote()), FcvideoError):
            is_done = bool(wait([fit], timeout=GRACE_SECONDS).done)
            if not is_done:
                return
        if is_done:
            fit.result()
            return


def _root_cause(error: BaseException) -> str:
    """The last line of what a worker raised, or Ray's own words."""
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        cause = getattr(failure, "cause", None) or failure
        return describe_error(cause)
    return str(error).strip().splitlines()[-1]


class _Board:
    """Where rank 0 leaves its reports, and any rank its fault, for the driver to fetch."""

    def __init__(self) -> None:
        self._reports: list[Report | None] = []
        self._outcome: Report | FcvideoError | None = None

    def post(self, report: Report | None) -> None:
        """None says that the workers have started."""
        self._reports.append(report)

    def take(self) -> list[Report | None]:
        reports, self._reports = self._reports, []
        return reports

    def finish(self, outcome: Report | FcvideoError) -> None:
        """Of several the first counts, and any fault before a result."""
        if self._outcome is None or (isinstance(outcome, FcvideoError) and isinstance(self._outcome, dict)):
            self._outcome = outcome

    def outcome(self) -> Report | FcvideoError | None:
        return self._outcome


def _run_worker(config: dict[str, Any]) -> None:
    """What each rank does. A fault of ours, on whatever rank, is no reason to start again; all else is Ray's."""
    import ray
    import ray.train
    from ray.train.torch import get_device

    settings: TrainSettings = config["settings"]
    board = config["board"]
    context = ray.train.get_context()
    rank = Rank(context.get_world_rank(), context.get_world_size(), str(get_device()))
    is_first = rank.rank == 0

    def on_report(report: dict[str, float]) -> None:
        if is_first:
            board.post.remote(report)

    if is_first:
        board.post.remote(None)
    outcome: Report | FcvideoError
    try:
        outcome = _run(settings, open_store(settings), rank, on_report)
    except FcvideoError as error:
        outcome = error
    if is_first or isinstance(outcome, FcvideoError):
        ray.get(board.finish.remote(outcome))
