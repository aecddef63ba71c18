"""Settings from flags, a TOML file and the defaults of `config`, checked: one line for each mistake."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from fcvideo.atomic import too_long
from fcvideo.config import JobSettings
from fcvideo.errors import OutputError, SettingsError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
Settings = TypeVar("Settings", bound=JobSettings)


def resolve(kind: type[Settings], flags: dict[str, Any], file: Path | None = None) -> Settings:
    """Settings from flags (None: not given), then `file`, then defaults.

    Errors: SettingsError for an unreadable file, an unknown key, or a value of the wrong type or size;
    OutputError for a name that no file can have.
    """
    values = _read_toml(kind, file) if file is not None else {}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in flags.items()}
    values |= {name: value for name, value in given.items() if value is not None and value != ()}
    _check(kind, values)
    return kind(**values)


def _read_toml(kind: type[JobSettings], file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{file}: not a TOML file that can be read ({error})") from None
    known = {f.name for f in dataclasses.fields(kind)}
    values = {key.replace("-", "_"): value for key, value in values.items()}
    if unknown := sorted(values.keys() - known):
        raise SettingsError(f"{file}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def _check(kind: type[JobSettings], values: dict[str, Any]) -> None:
    hints = typing.get_type_hints(kind)
    for spec in dataclasses.fields(kind):
        if spec.name not in values:
            continue
        value = values[spec.name]
        if not _fits(value, hints[spec.name]):
            raise SettingsError(f"{spec.name}: found {value!r}, expected {_describe(hints[spec.name])}")
        if isinstance(value, float) and not math.isfinite(value):  # NaN passes every comparison below
            raise SettingsError(f"{spec.name}: found {value}, expected a finite number")
        if spec.name == "out" and value is not None:
            check_out(value)
        minimum = spec.metadata["minimum"]
        if minimum is not None and value < minimum:
            raise SettingsError(f"{spec.name}: found {value}, expected at least {minimum:g}")
        maximum = spec.metadata["maximum"]
        if maximum is not None and value is not None and value > maximum:
            raise SettingsError(f"{spec.name}: found {value}, expected at most {maximum:g}")


def check_out(place: str) -> None:
    """Errors: SettingsError for a URL, which would become a local folder of that name; OutputError for a name that no
    file can have.
    """
    if match := _URL.match(place):
        expected = "a path on this machine; write there and copy the result to its place"
        raise SettingsError(f"out: found {place}, but nothing is written to {match[0]} yet, expected {expected}")
    if problem := too_long(Path(place)):
        raise OutputError(f"{place}: {problem}; choose another --out")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if arguments:  # X | None
        return any(_fits(value, argument) for argument in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if type(None) in typing.get_args(hint):  # X | None
        return " or ".join(_describe(part) for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint))
