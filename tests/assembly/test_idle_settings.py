"""Settings that would do nothing are refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcvideo.assembly.orders import MotionSource, Order, Place
from fcvideo.assembly.task import Task, refuse_idle
from fcvideo.config import ReenactSettings
from fcvideo.errors import SettingsError
from fcvideo.faces.fit import Choice
from fcvideo.video.inputs import Source


def refuse(source: str, target: str | None, **flags: Any) -> None:
    order = Order("o", Path("o"), MotionSource(Source(source, source)), target and Source(target, target))
    task = Task("reenact", Place(Path(), True), [order], "paste")
    if flags.pop("is_relative", False):
        task = replace(task, is_relative=True)
    refuse_idle(ReenactSettings(**flags), replace(task, choice=Choice(flags.get("target_time"))))


@pytest.mark.parametrize(
    ("source", "target", "flags", "message"),
    [
        ("a.mp4", "b.jpg", {"target_time": 1.0}, "--target-time: found b.jpg, a picture, expected a video"),
        ("a.mp4", "b.jpg", {"lossless": True, "crf": 18}, "--crf and --lossless: found both"),
        ("a.png", "b.jpg", {"crf": 30, "duration": 2.0}, "--duration, --crf: found a.png, a picture"),
        ("a.png", None, {"lossless": True}, "--lossless: found a.png"),
        ("a.png", None, {"codec": "av1", "start": 1.0}, "--start, --codec: found a.png"),
        (
            "a.png",
            "b.jpg",
            {"is_relative": True, "smooth_codes": 0.2},
            "--motion relative, --smooth-codes: found a.png",
        ),
    ],
)
def test_idle_settings_are_refused(source: str, target: str | None, flags: dict[str, Any], message: str):
    with pytest.raises(SettingsError, match=message):
        refuse(source, target, **flags)


@pytest.mark.parametrize(
    ("source", "target", "flags"),
    [
        ("a.mp4", "b.mp4", {"target_time": 1.0, "crf": 30, "start": 1.0, "codec": "av1", "is_relative": True}),
        ("a.mp4", None, {"lossless": True, "smooth_codes": 0.5}),
        ("a.png", "b.mp4", {"target_time": 1.0, "audio": "none", "size": 128}),
    ],
)
def test_others_are_not(source: str, target: str | None, flags: dict[str, Any]):
    refuse(source, target, **flags)
