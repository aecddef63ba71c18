"""What folders and tables list: their pictures, and which of them belong to the training and the test split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from fcvideo.errors import InputError, SettingsError
from fcvideo.evaluation.pictures import Pictures, Source
from fcvideo.tables.columns import Kind, column_names, read_columns


class HasSplits(Protocol):
    @property
    def splits(self) -> Sequence[str] | None: ...


Rows = TypeVar("Rows", bound=HasSplits)
Split = Literal["train", "test"]
SPLITS: tuple[Split, Split] = ("train", "test")

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "train_set"), "train"),
    **dict.fromkeys(("test", "testing", "test_set", "privatetest"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "val_set", "publictest"), "validation"),
}


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def pictures_under(folder: Path) -> list[Path]:
    """Every picture file, at any depth, sorted."""
    return sorted(path for path in folder.rglob("*") if is_picture(path))


def subfolders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))


def read_picture_table(path: Path, required: Mapping[str, Kind]) -> tuple[Pictures, dict[str, Any]]:
    """Pictures from column jpeg or image (bytes) or path (relative to the table), and the `required` columns beside
    name, split, source, person, clip where they are. Errors: InputError.
    """
    names = column_names(path)
    holds = next((name for name in ("jpeg", "image", "path") if name in names), None)
    if holds is None:
        raise InputError(f"{path}: found columns {', '.join(names)}; expected pictures in jpeg (bytes) or path")
    kind: Kind = "text" if holds == "path" else "bytes"
    optional: dict[str, Kind] = dict.fromkeys(("name", "split", "source", "person", "clip"), "text")
    columns = read_columns(path, {holds: kind, **required}, optional)
    values = columns.pop(holds)
    if None in values:
        raise InputError(f"{path}: column {holds} holds nulls, first in row {values.index(None)}")
    sources: list[Source] = [path.parent / value for value in values] if holds == "path" else values
    if "name" not in columns:
        columns["name"] = values if holds == "path" else [f"{path.name}, row {row}" for row in range(len(values))]
    return Pictures(columns["name"], sources), columns


def groups_of(columns: Mapping[str, Any]) -> np.ndarray | None:
    """Whose each row is: the person, within its source, else the clip; rows of unknown ones stand alone."""
    key = next((name for name in ("person", "clip") if name in columns), None)
    if key is None:
        return None
    sources = columns.get("source") or [None] * len(columns[key])
    known = zip(sources, columns[key], strict=True)
    return np.array([f"{source or ''}/{value or row}" for row, (source, value) in enumerate(known)])


def rows_of_split(splits: Sequence[str] | None, num_rows: int, wanted: Split, path: Path) -> np.ndarray:
    """Positions of the rows that belong to a split; all of them where the data set holds one split alone.

    Validation rows are the test split where no others are. Errors: InputError when there are none.
    """
    if splits is None:
        return np.arange(num_rows)
    known = np.array([SPLIT_NAMES.get(name.lower(), name) for name in splits])
    if len(set(known)) == 1:
        return np.arange(len(known))
    for name in ("train",) if wanted == "train" else ("test", "validation"):
        if (rows := np.flatnonzero(known == name)).size:
            return rows
    raise InputError(f"{path}: found splits {', '.join(sorted(set(splits)))}; expected {wanted} among them")


def read_both(read: Callable[[Path], Rows], train: Path, test: Path | None) -> tuple[Rows, Rows]:
    """What `train` and `test` hold, or twice what `train` does where it has both splits itself.

    Errors: SettingsError where `test` is needed, and those of `read`.
    """
    rows = read(train)
    if test is not None:
        return rows, read(test)
    if not has_both_splits(rows.splits):
        raise SettingsError(f"--test: not given, and {train} has no training and test split of its own")
    return rows, rows


def has_both_splits(splits: Sequence[str] | None) -> bool:
    known = {SPLIT_NAMES.get(name.lower(), name) for name in splits or ()}
    return "train" in known and bool({"test", "validation"} & known)
