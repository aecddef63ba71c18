"""Whether a setting's value fits its type, and that type in words."""

from __future__ import annotations

import typing
from typing import Any, Literal


def fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if arguments:  # X | None
        return any(fits(value, argument) for argument in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def describe(hint: Any) -> str:
    if type(None) in typing.get_args(hint):  # X | None
        return " or ".join(describe(part) for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint))
