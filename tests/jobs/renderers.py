"""Renderers that do what a machine may do to them. They live here, where a rendering process can import them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NoReturn

from fcvideo.assembly.join_process import Finisher
from fcvideo.rendering.segment import Piece, Rendered, SegmentRenderer
from fcvideo.survey.reading import FaceReader


class SomeSegments(FaceReader):
    segment_seconds = 0.5


class LoggingRenderer(SegmentRenderer):
    """Every piece that is begun is a line in SOURCE.log."""

    def render(self, piece: Piece) -> Rendered:
        with Path(f"{piece.segment.source.path}.log").open("a") as log:
            log.write(f"{piece.segment.index}\n")
        return super().render(piece)


def begun_segments(source: Path) -> list[int]:
    log = Path(f"{source}.log")
    return sorted(map(int, log.read_text().split())) if log.exists() else []


class SlowRenderer(LoggingRenderer):
    """Takes its time over every piece, so that a run can be stopped in the middle on any machine."""

    def render(self, piece: Piece) -> Rendered:
        time.sleep(0.3)
        return super().render(piece)


class PoisonedRenderer(SegmentRenderer):
    """Dies as a decoder does over the second segment of a file named `poison`."""

    def render(self, piece: Piece) -> Rendered:
        if Path(piece.segment.source.path).stem == "poison" and piece.segment.index == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().render(piece)


class DyingFinisher(Finisher):
    """Dies over whatever it is to join."""

    def join(self, *_: object) -> NoReturn:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


class BlindFinisher(Finisher):
    """Dies over whatever target it is to look at."""

    def find_target(self, *_: object) -> NoReturn:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError
