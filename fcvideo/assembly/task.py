"""What a rendering command makes of what, and who does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fcvideo.assembly.join_process import Finisher
from fcvideo.assembly.motion_source import CodeTable
from fcvideo.assembly.orders import Order, Place
from fcvideo.config import Compose, Mask, Neutral, RenderSettings
from fcvideo.errors import SettingsError, VideoError
from fcvideo.faces.fit import Choice
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
    choice: Choice = Choice()  # of a face in the targets
    tables: dict[str, CodeTable] = field(default_factory=dict)  # by path

    @property
    def covers(self) -> bool:
        """Whether no face that is wanted may be seen."""
        return self.kind == "deidentify" and self.compose == "paste"

    @property
    def target_time(self) -> float | None:
        return self.choice.time_seconds


@dataclass(frozen=True)
class Stages:
    """Who reads, renders and joins; tests put others in."""

    reader: type[FaceReader] = FaceReader
    renderer: type[SegmentRenderer] = SegmentRenderer
    finisher: type[Finisher] = Finisher


def refuse_idle(settings: RenderSettings, task: Task) -> None:
    """Settings that would do nothing to these inputs. Errors: SettingsError."""
    sources = [order.source for order in task.orders]
    targets = [order.target for order in task.orders if order.target is not None]
    if settings.crf is not None and settings.lossless:
        raise SettingsError("--crf and --lossless: found both, expected one of them")
    if task.target_time is not None and all(target.is_image for target in targets):
        raise SettingsError(f"--target-time: found {targets[0].name}, a picture, expected a video as --target")
    if not all(source.is_image for source in sources):
        return
    given = {
        "--motion relative": task.is_relative,
        "--smooth-codes": settings.smooth_codes != 0,
        "--start": settings.start is not None,
        "--duration": settings.duration is not None,
        "--codec": settings.codec != RenderSettings.codec,
        "--crf": settings.crf is not None,
        "--lossless": settings.lossless,
    }
    if idle := [flag for flag, is_given in given.items() if is_given]:
        what = f"{sources[0].source.name}, a picture" if len(sources) == 1 else "pictures alone"
        raise SettingsError(f"{', '.join(idle)}: found {what}, expected a video for it; go on without")


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


def read_point(text: str | None, flag: str = "at") -> tuple[float, float] | None:
    """Errors: SettingsError."""
    if text is None:
        return None
    try:
        x, y = (float(number) for number in text.split(","))
    except ValueError:
        raise SettingsError(f"{flag}: found {text!r}, expected x,y in pixels") from None
    return x, y
