"""Files that appear whole or not at all, whenever the machine stops."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

from fcvideo.errors import OutputError, cannot_be_written

UNFINISHED_SUFFIX = ".unfinished"
MAX_NAME_BYTES = 255  # of one file's name, on nearly every file system
_SHOWN_BYTES = 100  # of a file's own name within a hidden one's, so that this is never the longer one
_DIGEST_DIGITS = 12


def make_folder(folder: Path) -> None:
    """Errors: OutputError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_written(folder, error) from None


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; on leaving it is flushed to the disk and becomes `path`.

    Errors: OutputError where the disk refuses.
    """
    unfinished = _hidden(path, UNFINISHED_SUFFIX)
    try:
        yield unfinished
        _flush(unfinished)
        unfinished.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """A full disk met inside, wherever it was written to, is an OutputError that names `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error


def write_json(path: Path, value: dict[str, Any]) -> None:
    with written_atomically(path) as unfinished:
        unfinished.write_text(json.dumps(value))


def remove_folder(folder: Path) -> None:
    """Gone at once under its own name, so that no half of it is ever found there."""
    doomed = _hidden(folder, ".removed")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def clear_leftovers(folder: Path, name: str) -> None:
    """Removes what a killed run left of `folder / name`: unfinished files and half-removed folders."""
    for leftover in folder.glob(f".{glob.escape(_shortened(name, _SHOWN_BYTES))}.*"):
        if leftover.name.endswith(UNFINISHED_SUFFIX):
            leftover.unlink(missing_ok=True)
        elif leftover.name.endswith(".removed"):
            shutil.rmtree(leftover, ignore_errors=True)


def beside(path: Path, prefix: str, suffix: str) -> Path:
    """The place of what belongs to a file: PREFIX NAME SUFFIX, NAME shortened where the whole would be too long."""
    room = MAX_NAME_BYTES - len(prefix) - len(suffix)
    return path.with_name(f"{prefix}{_shortened(path.name, room)}{suffix}")


def too_long(path: PurePath) -> str | None:
    """What is wrong with a path of which one name is longer than a file system takes; None if it is not."""
    for name in path.parts:
        if (num_bytes := len(os.fsencode(name))) > MAX_NAME_BYTES:
            return f"found a name of {num_bytes} bytes, expected at most {MAX_NAME_BYTES}"
    return None


def _hidden(path: Path, suffix: str) -> Path:
    return path.with_name(f".{_shortened(path.name, _SHOWN_BYTES)}.{uuid.uuid4().hex[:8]}{suffix}")


def _shortened(name: str, num_bytes: int) -> str:
    """Of at most `num_bytes`; a digest tells shortened names apart."""
    encoded = os.fsencode(name)
    if len(encoded) <= num_bytes:
        return name
    kept = encoded[: num_bytes - 1 - _DIGEST_DIGITS].decode(errors="ignore")
    return f"{kept}~{hashlib.sha256(encoded).hexdigest()[:_DIGEST_DIGITS]}"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """Keeps all other processes of fcvideo out of a folder, as long as it is held; a process that dies lets go."""

    def __init__(self, folder: Path, name: str = "lock") -> None:
        self.folder, self._path = folder, folder / name
        self._descriptor: int | None = None

    def take(self) -> None:
        """Makes the folder where there is none. Errors: OutputError where another process is at work in it."""
        try:
            while self._descriptor is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._try()
        except OSError as error:
            raise cannot_be_written(self.folder, error) from None

    def _try(self) -> None:
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise OutputError(f"{self.folder}: another fcvideo is at work here") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                self._descriptor = descriptor
                return
        os.close(descriptor)  # whoever had it has just removed the folder

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
