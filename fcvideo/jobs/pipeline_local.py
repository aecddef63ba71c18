"""One device, this process: reading processes run ahead of the encoder, a few chunks at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fcvideo.jobs.encoding import Encoding, FaceEncoder, Written
from fcvideo.jobs.reader_process import ReaderPool, Tick
from fcvideo.video.segments import Segment

Work = tuple[Segment, str]  # a segment and its video's id


def run_local(
    work: Sequence[Work], pool: ReaderPool, encoding: Encoding, device: str, threads: int | None, tick: Tick
) -> Iterator[Written]:
    """Reads and encodes everything; a receipt for every chunk, in the order in which they become ready."""
    chunks = pool.read(work, tick)
    encode = FaceEncoder(encoding, device, threads)
    for chunk in chunks:
        yield encode(chunk)
