"""This process and one device, a GPU or the CPU: reading processes run ahead of the encoder, a few chunks at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import torch

from fcvideo.survey.encoding import Encoding, FaceEncoder, Written
from fcvideo.survey.readers import ReaderPool, Tick
from fcvideo.survey.reading import Chunk
from fcvideo.video.segments import Segment

Work = tuple[Segment, str]  # a segment and its video's id


def run_local(
    work: Sequence[Work], pool: ReaderPool, encoding: Encoding, device: str, num_threads: int, tick: Tick
) -> Iterator[Written]:
    """Reads and encodes everything; a receipt for every chunk, in the order in which they become ready.

    `num_threads` encode a chunk each. On the CPU, where encoding takes most of the time, as many as there are cores:
    readers that are too far ahead wait, so that no core idles.
    """
    chunks = pool.read(work, tick)
    encode = FaceEncoder(encoding, device, threads=1 if device == "cpu" else None)
    if num_threads == 1:
        yield from map(encode, chunks)
    else:
        yield from _encode_aside(encode, chunks, num_threads)


def _encode_aside(encode: FaceEncoder, chunks: Iterator[Chunk], num_threads: int) -> Iterator[Written]:
    # torch counts its own threads per calling thread
    with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as threads:
        running: set[Future[Written]] = set()
        try:
            for chunk in chunks:
                running.add(threads.submit(encode, chunk))
                done, running = wait(running, None if len(running) >= num_threads else 0, FIRST_COMPLETED)
                for future in done:
                    yield future.result()
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            threads.shutdown(cancel_futures=True)
