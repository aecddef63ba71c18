"""Renders a video as the jobs do, with its own frames for pictures: segments written apart, then joined."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

from fcvideo.video.inputs import Source
from fcvideo.video.join import Joined, join_segments
from fcvideo.video.provenance import Mark
from fcvideo.video.read import Frame, read_frames
from fcvideo.video.segments import plan_segments
from fcvideo.video.write import Coding, SegmentWriter

MARK = Mark("reenact", "facecycle-64-small", "ab12" * 16, "0.1.0")
FAST = Coding("h264", 30)


def source(path: Path) -> Source:
    return Source(str(path), path.name)


def read(path: Path, limit: int | None = None) -> tuple[list[Frame], Fraction]:
    """The frames that could be decoded, the first `limit`, and their time base."""
    frames: list[Frame] = []
    segments = plan_segments(source(path), 2.0)
    for segment in segments:
        for frame in read_frames(segment):
            if frame.image is not None:
                frames.append(frame)
            if len(frames) == limit:
                return frames, segment.time_base
    return frames, segments[0].time_base


def write_parts(
    folder: Path, frames: Sequence[Frame], time_base: Fraction, num_parts: int, coding: Coding = FAST
) -> list[Path]:
    height, width = frames[0].image.shape[:2]
    cuts = np.linspace(0, len(frames), num_parts + 1).round().astype(int)
    parts = []
    for i in range(num_parts):
        parts.append(folder / f"{i}_of_{num_parts}.mp4")
        with SegmentWriter(parts[-1], width, height, time_base, coding) as writer:
            for frame in frames[cuts[i] : cuts[i + 1]]:
                writer.write(frame.image, frame.pts, frame.duration)
    return parts


def render(
    path: Path,
    out: Path,
    num_parts: int = 3,
    limit: int | None = None,
    coding: Coding = FAST,
    mark: Mark = MARK,
) -> tuple[list[Frame], Joined]:
    """The frames that went in, and what joining says."""
    frames, time_base = read(path, limit)
    parts = write_parts(out.parent, frames, time_base, min(num_parts, len(frames)), coding)
    joined = join_segments(parts, out, sound=source(path), mark=mark)
    return frames, joined


def packets(path: Path, stream: int) -> list[Packet]:
    """Of one stream of the file, all that hold data."""
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(container.streams[stream]) if packet.size]


def sound_packets(path: Path) -> list[list[Packet]]:
    with av.open(str(path)) as container:
        indices = [stream.index for stream in container.streams.audio]
    return [packets(path, index) for index in indices]


def boxes(path: Path) -> list[str]:
    """Kinds of the mp4 file's boxes of the top level, in order."""
    data = path.read_bytes()
    kinds, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kinds.append(data[at + 4 : at + 8].decode())
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at += size
    return kinds
