"""What a rendering command makes of what, and who does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fcvideo.assembly.motion_source import CodeTable
from fcvideo.assembly.orders import Order, Place
from fcvideo.config import Compose, Mask, Neutral
from fcvideo.errors import SettingsError, VideoError
from fcvideo.rendering.segment import SegmentRenderer
from fcvideo.survey.reading import FaceReader
from fcvideo.video.inputs import Source
from fcvideo.video.probe import dated_fingerprint


@dataclass(frozen=True)
class Task:
    """What a command makes of what."""

    kind: Literal["reenact", "frontalize", "deidentify"]
    place: Place
    orders: Sequence[Order]
    compose: Compose
    neutral: Neutral = "de-expression"
    mask: Mask = "face"
    is_relative: bool = False
    target_time: float | None = None
    tables: dict[str, CodeTable] = field(default_factory=dict)  # by path

    @property
    def covers(self) -> bool:
        """Whether no face that is wanted may be seen."""
        return self.kind == "deidentify" and self.compose == "paste"


@dataclass(frozen=True)
class Stages:
    """Who reads and who renders; tests put others in."""

    reader: type[FaceReader] = FaceReader
    renderer: type[SegmentRenderer] = SegmentRenderer


def known_fingerprint(source: Source, known: dict[str, str | VideoError]) -> str:
    """Of each file once, with its date: a rendered video is not worth a look at the whole file. Errors: VideoError."""
    if source.path not in known:
        try:
            known[source.path] = dated_fingerprint(source)
        except VideoError as error:
            known[source.path] = error
    found = known[source.path]
    if isinstance(found, VideoError):
        raise found
    return found


def read_point(text: str | None) -> tuple[float, float] | None:
    """Errors: SettingsError."""
    if text is None:
        return None
    try:
        x, y = (float(number) for number in text.split(","))
    except ValueError:
        raise SettingsError(f"at: found {text!r}, expected x,y in pixels") from None
    return x, y
