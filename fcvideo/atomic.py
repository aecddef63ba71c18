"""Files that appear whole or not at all, whenever the machine stops."""

from __future__ import annotations

import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fcvideo.errors import OutputError

UNFINISHED_SUFFIX = ".unfinished"


def make_folder(folder: Path) -> None:
    """Errors: OutputError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from None


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; on leaving it is flushed to the disk and becomes `path`.

    Errors: OutputError where the disk refuses.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED_SUFFIX}")
    try:
        yield unfinished
        _flush(unfinished)
        unfinished.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    with written_atomically(path) as unfinished:
        unfinished.write_text(json.dumps(value))


def remove_folder(folder: Path) -> None:
    """Gone at once under its own name, so that no half of it is ever found there."""
    doomed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.removed")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def clear_leftovers(folder: Path, name: str) -> None:
    """Removes what a killed run left of `folder / name`: unfinished files and half-removed folders."""
    for leftover in folder.glob(f".{glob.escape(name)}.*"):
        if leftover.name.endswith(UNFINISHED_SUFFIX):
            leftover.unlink(missing_ok=True)
        elif leftover.name.endswith(".removed"):
            shutil.rmtree(leftover, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
