"""`fcvideo prepare`: the faces of videos, followed over time and cut into clips to train on.

A video is the unit of resume. Its segments are read by processes of this machine, or many videos at once by Ray actors.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fcvideo.clips.crops import CropTable, is_crop_table
from fcvideo.clips.cut import ClipCutter
from fcvideo.clips.folder import ClipFolder, Record, clip_videos_schema, worth_another_try, write_part
from fcvideo.config import PrepareSettings
from fcvideo.errors import InputError, VideoError
from fcvideo.faces.crop import Framing
from fcvideo.running.cluster import cluster_cores, ray_cluster
from fcvideo.running.devices import count_cores
from fcvideo.running.progress import Reporter
from fcvideo.survey.readers import ReaderPool
from fcvideo.survey.reading import Chunk, FaceReader, Looking
from fcvideo.tables.parts import inputs_key
from fcvideo.video.inputs import Source, resolve_inputs
from fcvideo.video.probe import Edition, fingerprint, is_unchanged
from fcvideo.video.segments import Segment

# Ray needs 15 to 25 s to start; a core cuts about 2 MB of ordinary video a second.
SMALL_PLAN_BYTES = 100 << 20
# A face that hovers about the smallest size kept should not fall apart into many tracks.
DETECTION_MARGIN = 2 / 3


def prepare(settings: PrepareSettings) -> dict[str, Any]:
    """Fills the folder `settings.out`; gives the summary. Errors: UsageError's children."""
    started = time.monotonic()
    sources = resolve_inputs(settings.inputs, settings.limit, say=Reporter(settings.progress).say)
    inputs = inputs_key(source.name for source in sources)
    folder = ClipFolder(Path(settings.out), _identity(settings), inputs, overwrite=settings.overwrite)
    plan = _Plan(folder, sources, retries_failed=settings.retry == "failed")
    if settings.dry_run:
        return {"out": settings.out, "videos": len(sources), "to_do": len(plan.to_do), "dry_run": True, "exit_code": 0}
    with Reporter(settings.progress) as reporter:
        if plan.to_do or not folder.is_finished:
            folder.claim()
            try:
                plan = _Plan(folder, sources, retries_failed=settings.retry == "failed")
                for source in plan.changed:
                    folder.forget(source.name)
                _cut_all(settings, plan.to_do, reporter)
                folder.finish()
            finally:
                folder.release()
    return _summarize(settings, folder, sources, time.monotonic() - started)


def _identity(settings: PrepareSettings) -> dict[str, Any]:
    """Whatever decides what the clips look like; the shards carry it."""
    framing = Framing(side_factor=settings.side_factor)
    return {
        "kind": "clips",
        "fps": settings.fps,
        "start": settings.start,
        "duration": settings.duration,
        "min_face": settings.min_face,
        "min_frames": settings.min_frames,
        "score": settings.score,
        "crop_side": settings.crop_side,
        "framing": {"side_factor": framing.side_factor, "center": list(framing.center)},
    }


class _Plan:
    """What is still to do: videos without a record, with one worth another try, or whose content has changed."""

    def __init__(self, folder: ClipFolder, sources: Sequence[Source], *, retries_failed: bool) -> None:
        self.to_do: list[Source] = []
        self.changed: list[Source] = []
        for source in sources:
            record = folder.record(source.name)
            if record is not None and not worth_another_try(record, retries_failed=retries_failed):
                if _is_unchanged(source, record):
                    continue
                self.changed.append(source)
            self.to_do.append(source)


def _is_unchanged(source: Source, record: Record) -> bool:
    if record["video_id"] is None:
        return _fingerprint_or_none(source) is None
    try:
        known = Edition(record["video_id"], record.get("modified_seconds"), record.get("content_hash"))
        return is_unchanged(source, known)
    except VideoError:
        return False


def _fingerprint_or_none(source: Source) -> str | None:
    try:
        return fingerprint(source)
    except VideoError:
        return None


class FaceCutter:
    """The stage: one video to one part file, its segments spread over `num_processes` readers."""

    def __init__(self, settings: PrepareSettings, num_processes: int = 1) -> None:
        looking = Looking(
            fps=settings.fps,
            start_seconds=settings.start,
            duration_seconds=settings.duration,
            min_face_px=round(settings.min_face * DETECTION_MARGIN),
            score_threshold=settings.score,
            side_px=settings.crop_side,
            framing=Framing(side_factor=settings.side_factor),
        )
        self.settings = settings
        self.out = Path(settings.out)
        self.readers = ReaderPool(FaceReader, looking, num_processes)

    def close(self) -> None:
        self.readers.__exit__()

    def cut(self, source: Source, on_progress: Callable[[float], None] | None = None) -> Record:
        """Writes the video's part and gives its record; `on_progress` hears what fraction of the video is read."""
        if is_crop_table(source.path):
            return self._copy(source)
        started = time.monotonic()
        record, num_done = empty_record(source), 0
        (plan,) = self.readers.plan([(source, None)])
        if plan.info is not None:
            record |= {name: value for name, value in dataclasses.asdict(plan.info).items() if name in record}
        record |= {"video_id": plan.video_id, "status": plan.status, "error": plan.error}
        with tempfile.TemporaryFile(dir=self.out) as spool:
            cutter = ClipCutter(source.name, self.settings.min_frames, self.settings.min_face, spool)
            for chunk in self.readers.read([(segment, plan.video_id or "") for segment in plan.segments], _ignore):
                _take(chunk, cutter, record)
                num_done += chunk.is_last
                if on_progress is not None:
                    on_progress(num_done / len(plan.segments))
            clips = cutter.cut()
            record |= dataclasses.asdict(cutter.counts) | {"seconds_spent": time.monotonic() - started}
            write_part(self.out, clips, record)
        return record

    def _copy(self, source: Source) -> Record:
        """A table of ready crops: nothing to find or cut."""
        started = time.monotonic()
        record = empty_record(source) | {"video_id": _fingerprint_or_none(source)}
        try:
            crops = CropTable(Path(source.path), source.name, self.settings.min_frames, self.settings.crop_side)
        except InputError as error:
            record |= {"status": "error", "error": str(error)}
            write_part(self.out, [], record)
            return record
        record |= {"num_frames_sampled": crops.store.num_frames, "num_faces": crops.store.num_frames}
        record |= {"num_tracks": len(crops.store), "num_tracks_too_short": crops.num_too_short}
        record |= {"num_clips": len(crops.kept), "num_clip_frames": crops.num_frames_kept}
        write_part(self.out, crops.clips(), record | {"seconds_spent": time.monotonic() - started})
        return record


def _ignore(segment: Segment, pts_seconds: float) -> None:
    pass


def _take(chunk: Chunk, cutter: ClipCutter, record: Record) -> None:
    for frame, box, crop in zip(chunk.face_frame, chunk.boxes, chunk.crops, strict=True):
        cutter.add(int(chunk.frame_index[frame]), float(chunk.pts_seconds[frame]), box, crop)
    record["num_frames_sampled"] += len(chunk.frame_index)
    record["num_frames_failed"] += int((~chunk.is_decoded).sum())
    if chunk.status != "ok":
        record |= {"status": chunk.status, "error": chunk.error}
    elif (chunk.num_damaged or not chunk.is_decoded.all()) and record["status"] == "ok":
        record["status"] = "damaged"


def empty_record(source: Source) -> Record:
    record: Record = {field.name: None if field.nullable else 0 for field in clip_videos_schema()}
    return record | {"video": source.name, "status": "ok"}


def _cut_all(settings: PrepareSettings, to_do: Sequence[Source], reporter: Reporter) -> None:
    if not to_do:
        return
    num_workers = settings.workers or count_cores()
    is_large = sum(map(_size_bytes, to_do)) > SMALL_PLAN_BYTES and min(len(to_do), num_workers) > 1
    totals: Counter[str] = Counter()
    reporter.begin("prepare", len(to_do))

    def on_progress(fraction: float) -> None:
        reporter.update(totals["videos"] + fraction, **totals)

    if settings.address is not None or is_large:
        records = _cut_on_ray(settings, sorted(to_do, key=_size_bytes, reverse=True))
    else:
        records = _cut_here(settings, num_workers, to_do, on_progress)
    for record in records:
        totals.update(videos=1, clips=record["num_clips"], faces=record["num_faces"], failed=int(_has_failed(record)))
        on_progress(0)
        if _has_failed(record):
            reporter.say(f"{record['video']}: {record['status']}: {record['error']}")
    reporter.end()


def _size_bytes(source: Source) -> int:
    return Path(source.path).stat().st_size if source.scheme is None else 0


def _has_failed(record: Record) -> bool:
    return record["status"] not in ("ok", "damaged")


def _cut_here(
    settings: PrepareSettings, num_workers: int, to_do: Sequence[Source], on_progress: Callable[[float], None]
) -> Iterator[Record]:
    cutter = FaceCutter(settings, num_workers)
    try:
        for source in to_do:
            yield cutter.cut(source, on_progress)
    finally:
        cutter.close()


def _cut_on_ray(settings: PrepareSettings, to_do: Sequence[Source]) -> Iterator[Record]:
    settings = dataclasses.replace(settings, out=str(Path(settings.out).resolve()))  # for workers elsewhere
    with ray_cluster(settings.address):
        num_workers = min(settings.workers or cluster_cores(), len(to_do))
        yield from _CutterPool(settings, num_workers).run(to_do)


class _CutterPool:
    """Ray actors, each at one video. A video whose actor dies is tried once more, then recorded as crashed.

    What kills a reader is held off by the reader's own process; this is for lost machines and for memory.
    """

    def __init__(self, settings: PrepareSettings, num_workers: int) -> None:
        import ray

        self._settings = settings
        self._actor_class = ray.remote(num_cpus=1, max_restarts=0)(FaceCutter)
        self._idle = [self._start() for _ in range(num_workers)]

    def _start(self) -> Any:
        return self._actor_class.remote(self._settings)

    def run(self, sources: Sequence[Source]) -> Iterator[Record]:
        import ray
        from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

        waiting, deaths = deque(sources), Counter[str]()
        busy: dict[Any, tuple[Any, Source]] = {}
        while waiting or busy:
            while waiting and self._idle:
                actor, source = self._idle.pop(), waiting.popleft()
                busy[actor.cut.remote(source)] = (actor, source)
            for result in ray.wait(list(busy), num_returns=1)[0]:
                actor, source = busy.pop(result)
                try:
                    yield ray.get(result)
                except RayTaskError as error:
                    raise error.cause from None
                except RayActorError as error:
                    if isinstance(error, ActorDiedError) and error.actor_init_failed:
                        raise
                    actor = self._start()
                    deaths[source.name] += 1
                    if deaths[source.name] < 2:
                        waiting.append(source)
                    else:
                        yield self._record_crash(source)
                self._idle.append(actor)

    def _record_crash(self, source: Source) -> Record:
        record = empty_record(source) | {
            "video_id": _fingerprint_or_none(source),
            "status": "crashed",
            "error": "killed its worker twice",
        }
        write_part(Path(self._settings.out), [], record)
        return record


def _summarize(
    settings: PrepareSettings, folder: ClipFolder, sources: Sequence[Source], seconds: float
) -> dict[str, Any]:
    records = [folder.records[source.name] for source in sources]
    num_failed = sum(map(_has_failed, records))
    totals: Counter[str] = Counter()
    for record in records:
        totals.update({name: value for name, value in record.items() if name.startswith("num_")})
    return {
        "out": settings.out,
        "videos": len(records),
        "failed": num_failed,
        "clips": totals["num_clips"],
        "clip_frames": totals["num_clip_frames"],
        "faces": totals["num_faces"],
        "tracks": totals["num_tracks"],
        "tracks_too_small": totals["num_tracks_too_small"],
        "tracks_too_short": totals["num_tracks_too_short"],
        "seconds": round(seconds, 3),
        "exit_code": 3 if num_failed else 0,
    }
