"""Checkpoints of a training run: whole or absent, the newest readable one wins, two are kept."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, cast

import torch

from fcvideo.atomic import written_atomically
from fcvideo.errors import OutputError, TrainingError

KEPT = 2


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes FOLDER/step-000000123.pt, whole or not at all; removes all but the newest two.

    Errors: OutputError; TrainingError, and nothing is written, where a number of the state is not finite.
    """
    if odd := _not_finite(state):
        raise TrainingError(f"{folder}: step {step}: {odd} is not finite; the checkpoint before it is kept")
    path = folder / f"step-{step:09d}.pt"
    with written_atomically(path) as unfinished:
        folder.mkdir(parents=True, exist_ok=True)
        _save(state, unfinished)
    for old in _list_checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def _not_finite(value: Any, name: str = "") -> str | None:
    """The dotted name of the first tensor in nested dicts and lists that holds NaN or infinity."""
    if isinstance(value, torch.Tensor):
        return None if torch.isfinite(value).all() else name
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next(filter(None, (_not_finite(inner, f"{name}.{key}".strip(".")) for key, inner in items)), None)


def _save(state: dict[str, Any], path: Path) -> None:
    """Errors: OSError, as the disk has it; torch's own error would not say that the disk is full."""
    with path.open("wb") as file:
        keeper = _KeepsError(file)
        try:
            torch.save(state, cast(IO[bytes], keeper))
        except RuntimeError:
            if keeper.error is not None:
                raise keeper.error from None
            raise


class _KeepsError:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def load_checkpoint(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The newest checkpoint's state, or None where there is none.

    Errors: OutputError when it belongs to a run with other settings (`identity`), and names the first that differs;
    TrainingError when every checkpoint there is damaged.
    """
    paths = _list_checkpoints(folder)
    for path in reversed(paths):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            found = state["identity"]
        except Exception:  # a damaged file: torch raises several kinds; the one before it will do
            continue
        if difference := _first_difference(found, identity):
            name, theirs, ours = difference
            raise OutputError(
                f"{path}: belongs to a run with {name} {theirs!r}, not {ours!r};"
                " give another --out, or --overwrite to start anew"
            )
        return dict(state)
    if paths:
        raise TrainingError(f"{folder}: no checkpoint there can be read; give --overwrite to start anew")
    return None


def _first_difference(found: Any, wanted: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Dotted name and both values of the first leaf that differs."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys((*wanted, *found)):
            inner = f"{name}.{key}".strip(".")
            if difference := _first_difference(found.get(key), wanted.get(key), inner):
                return difference
        return None
    return None if found == wanted else (name, found, wanted)


def _list_checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"))
