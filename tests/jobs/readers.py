"""Readers that do what a video or a decoder may do to them. They live here, where a reading process can import them."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from fcvideo.survey.reading import FaceReader, VideoPlan
from fcvideo.video.inputs import Source
from fcvideo.video.probe import Edition
from fcvideo.video.read import Frame
from fcvideo.video.segments import Segment


class ShortSegments(FaceReader):
    segment_seconds = 1.0


class SlowReader(ShortSegments):
    """Takes its time over every segment, so that a run can be stopped in the middle on any machine."""

    def frames(self, segment: Segment) -> Iterator[Frame]:
        time.sleep(0.25)
        return super().frames(segment)


class LoggingReader(ShortSegments):
    """Every segment that is opened is a line in VIDEO.log."""

    def frames(self, segment: Segment) -> Iterator[Frame]:
        with Path(f"{segment.source.path}.log").open("a") as log:
            log.write(f"{segment.index}\n")
        return super().frames(segment)


def opened_segments(video: Path) -> list[int]:
    log = Path(f"{video}.log")
    return sorted(map(int, log.read_text().split())) if log.exists() else []


class PoisonedReader(LoggingReader):
    """Dies as a decoder does over any file of the name `poison`, and over the middle of one named `half`."""

    def frames(self, segment: Segment) -> Iterator[Frame]:
        for frame in super().frames(segment):
            name = Path(segment.source.name).stem
            if name == "poison" or (name == "half" and frame.frame_index == 30):
                os.kill(os.getpid(), signal.SIGSEGV)
            yield frame


class LateKilledReader(ShortSegments):
    """The machine ends its process behind frame 300 of any file, while there is a file of the name VIDEO.scarce."""

    segment_seconds = 60.0

    def frames(self, segment: Segment) -> Iterator[Frame]:
        for frame in super().frames(segment):
            if frame.frame_index == 300 and Path(f"{segment.source.path}.scarce").exists():
                time.sleep(0.1)  # what was handed on is on its way
                os.kill(os.getpid(), signal.SIGKILL)
            yield frame


class KilledReader(ShortSegments):
    """Dies at the beginning of any file of the name `poison`, and leaves nothing behind."""

    def frames(self, segment: Segment) -> Iterator[Frame]:
        if Path(segment.source.name).stem == "poison":
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().frames(segment)


class PoisonedPlanner(LoggingReader):
    def plan(self, source: Source, known: Edition | None = None) -> VideoPlan:
        if Path(source.name).stem == "poison":
            os._exit(7)
        return super().plan(source, known)


class BrokenReader(LoggingReader):
    """Has an error of its own at frame 30."""

    def frames(self, segment: Segment) -> Iterator[Frame]:
        for frame in super().frames(segment):
            if frame.frame_index == 30:
                raise ZeroDivisionError("in the decoder")
            yield frame


class FolderRemover(LoggingReader):
    """Takes the place away where the parts are to be written."""

    def frames(self, segment: Segment) -> Iterator[Frame]:
        for folder in Path(segment.source.path).parent.glob("*.parts"):
            shutil.rmtree(folder)
        return super().frames(segment)
