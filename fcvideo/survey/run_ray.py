"""Several devices or machines: the same two stages as Ray Data actor pools, one block per segment.

A reading actor keeps its reader in a process of its own, so that no video can kill an actor: Ray would start it again
for ever, or end the run.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from fcvideo.errors import FcvideoError
from fcvideo.running.cluster import cluster_cores
from fcvideo.survey.encoding import Encoding, FaceEncoder, Written
from fcvideo.survey.readers import ReaderProcess
from fcvideo.survey.reading import Chunk, FaceReader, Looking
from fcvideo.survey.run_local import Work

Batch = dict[str, np.ndarray]
# Of the cores of a machine without a GPU; measured: reading a face costs about as much as encoding it.
ENCODING_SHARE = 0.5


def run_ray(
    work: Sequence[Work],
    reader: type[FaceReader],
    looking: Looking,
    encoding: Encoding,
    gpus: int,
    workers: int | None,
) -> Iterator[Written]:
    """Reads and encodes everything on the cluster that is joined; a receipt for every chunk."""
    cores = cluster_cores()
    num_encoders = min(gpus or max(1, int(cores * ENCODING_SHARE)), len(work))
    num_readers = min(workers or max(1, cores - num_encoders), len(work))
    cores_per_actor = min(1.0, cores / (num_encoders + num_readers))
    return receipts(
        work_items(work)
        .map_batches(
            ReadingActor,
            fn_constructor_args=(reader, looking),
            batch_size=None,
            compute=ActorPoolStrategy(size=num_readers),
            num_cpus=cores_per_actor,
        )
        .map_batches(
            EncodingActor,
            fn_constructor_args=(encoding, gpus > 0),
            batch_size=None,
            compute=ActorPoolStrategy(size=num_encoders),
            num_cpus=cores_per_actor,
            num_gpus=1 if gpus else None,
        )
    )


def work_items(work: Sequence[Any]) -> ray.data.Dataset:
    """A block for each item."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray.data.from_items([{"work": pickle.dumps(item)} for item in work], override_num_blocks=len(work))


def receipts(dataset: ray.data.Dataset) -> Iterator[Any]:
    """What the last stage's actors put into `receipt`; an error raised on purpose is raised again."""
    for row in dataset.iter_rows():
        receipt = pickle.loads(row["receipt"])
        if isinstance(receipt, FcvideoError):
            raise receipt
        yield receipt


class ReadingActor:
    """A row of `work` in, its chunks out, a row each: a segment gives one at least, for Ray drops empty blocks."""

    def __init__(self, reader: type[FaceReader], looking: Looking) -> None:
        self._process = ReaderProcess(reader, looking)

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for item in batch["work"]:
            segment, video_id = pickle.loads(item)
            for chunk in self._process.read(segment, video_id, tick=lambda *_: None):
                yield {"chunk": objects([pickle.dumps(chunk, protocol=5)])}


class EncodingActor:
    """Chunks in, a receipt for each out; an error raised on purpose is a receipt too, for Ray wraps what is raised."""

    def __init__(self, encoding: Encoding, has_gpu: bool) -> None:
        self._encode = FaceEncoder(encoding, "cuda" if has_gpu else "cpu", threads=None if has_gpu else 1)

    def __call__(self, batch: Batch) -> Batch:
        return {"receipt": objects([pickle.dumps(self._receipt(pickle.loads(chunk))) for chunk in batch["chunk"]])}

    def _receipt(self, chunk: Chunk) -> Written | FcvideoError:
        try:
            return self._encode(chunk)
        except FcvideoError as error:
            return error


def objects(values: list[bytes]) -> np.ndarray:
    """An array of the bytes as they are; numpy's own would cut trailing zeros."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
