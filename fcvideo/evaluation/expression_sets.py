"""Data sets of expressions in the forms that people have them; see `READERS`.

A label is a class's name; the numbers of FER-2013, RAF-DB and AffectNet are turned into the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcvideo.errors import InputError
from fcvideo.evaluation.listing import (
    SPLIT_NAMES,
    Split,
    groups_of,
    is_picture,
    pictures_under,
    read_both,
    read_picture_table,
    rows_of_split,
    subfolders,
)
from fcvideo.evaluation.pictures import LabelledSet, Pictures, Source
from fcvideo.tables.columns import column_names, is_table, read_columns

FER_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # 0 to 6
RAF_CLASSES = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")  # 1 to 7
AFFECTNET_CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")  # 0 to 7
RAF_LIST = "list_patition_label.txt"  # sic


@dataclass(frozen=True)
class LabelledRows:
    pictures: Pictures
    labels: Sequence[str]
    splits: Sequence[str] | None = None  # None: the data set has no splits of its own
    groups: np.ndarray | None = None  # person or clip, where known


def read_expression_sets(train: Path, test: Path | None) -> tuple[LabelledSet, LabelledSet]:
    """Both splits, with the same classes: of two data sets, or of one that says which row belongs to which.

    Errors: InputError, SettingsError where `test` is needed.
    """
    train_rows, test_rows = read_both(read_labelled_rows, train, test)
    chosen = _choose(train_rows, "train", train), _choose(test_rows, "test", test or train)
    known, judged = (set(rows.labels) for rows in chosen)
    if not known & judged:
        found = f"{', '.join(sorted(judged))} in {test or train}, {', '.join(sorted(known))} in {train}"
        raise InputError(f"labels: found {found}; expected the same in both")
    classes = sorted_classes(known | judged)
    train_set, test_set = (
        LabelledSet(rows.pictures, number_labels(rows.labels, classes), classes, rows.groups) for rows in chosen
    )
    return train_set, test_set


def read_labelled_rows(path: Path) -> LabelledRows:
    """A data set in any of the forms below. Errors: InputError."""
    for fits, read in READERS:
        if fits(path):
            rows = read(path)
            if not rows.labels:
                raise InputError(f"{path}: holds no labelled pictures")
            return rows
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    raise InputError(f"{path}: found no pictures with labels; expected a .csv or .parquet table, or a folder per class")


def _choose(rows: LabelledRows, split: Split, path: Path) -> LabelledRows:
    chosen = rows_of_split(rows.splits, len(rows.labels), split, path)
    groups = None if rows.groups is None else rows.groups[chosen]
    return LabelledRows(rows.pictures.subset(chosen), [rows.labels[i] for i in chosen], groups=groups)


def number_labels(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """(N,) int64, positions in `classes`."""
    position = {name: index for index, name in enumerate(classes)}
    return np.array([position[name] for name in labels], np.int64)


def sorted_classes(names: set[str]) -> tuple[str, ...]:
    """Numbers by size, then names."""
    return tuple(sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name)))


def _read_fer_csv(path: Path) -> LabelledRows:
    """FER-2013's own csv: emotion 0 to 6, pixels as 2,304 numbers, Usage."""
    columns = read_columns(path, {"emotion": "number", "pixels": "text"}, {"Usage": "text"})
    labels = _names_of(columns["emotion"], FER_CLASSES, 0, f"{path}: column emotion")
    sources = [_grey_picture(text, f"{path}: row {row}") for row, text in enumerate(columns["pixels"])]
    return LabelledRows(
        Pictures([f"{path.name}, row {row}" for row in range(len(sources))], sources), labels, columns.get("Usage")
    )


def _grey_picture(text: str, where: str) -> np.ndarray:
    """uint8 (S, S) of S * S numbers, 0 to 255."""
    try:
        values = np.array(text.split(), np.uint8)
    except (ValueError, OverflowError):
        raise InputError(f"{where}: found {text[:20]!r} as pixels, expected numbers from 0 to 255") from None
    side = round(len(values) ** 0.5)
    if not side or side * side != len(values):
        raise InputError(f"{where}: found {len(values)} pixels, expected a square's")
    return values.reshape(side, side)


def _read_affectnet_csv(path: Path) -> LabelledRows:
    """AffectNet's training.csv or validation.csv, in or beside the folder of its pictures; whole pictures."""
    columns = read_columns(path, {"subDirectory_filePath": "text", "expression": "number"})
    kept = np.flatnonzero(columns["expression"] < len(AFFECTNET_CLASSES))  # above: none, uncertain, no face
    names = [columns["subDirectory_filePath"][i] for i in kept]
    folders = [path.parent, *subfolders(path.parent)]
    root = next((folder for folder in folders if names and (folder / names[0]).is_file()), path.parent)
    labels = _names_of(columns["expression"][kept], AFFECTNET_CLASSES, 0, f"{path}: column expression")
    return LabelledRows(Pictures(names, [root / name for name in names], are_crops=False), labels)


def _read_affectnet_folder(path: Path) -> LabelledRows:
    """AffectNet's train_set and val_set, or one of them: images/0.jpg and annotations/0_exp.npy; ready crops."""
    sets = [folder for folder in (path, path / "train_set", path / "val_set") if (folder / "annotations").is_dir()]
    files: list[Path] = []
    numbers: list[float] = []
    splits: list[str] = []
    for folder in sets:
        for file in pictures_under(folder / "images"):
            number = float(np.load(folder / "annotations" / f"{file.stem}_exp.npy"))
            if number < len(AFFECTNET_CLASSES):
                files.append(file)
                numbers.append(number)
                splits.append(folder.name)
    labels = _names_of(np.array(numbers), AFFECTNET_CLASSES, 0, f"{path}: annotations")
    return LabelledRows(_files(files, path), labels, splits)


def _read_raf_db(path: Path) -> LabelledRows:
    """RAF-DB basic: the list of labels 1 to 7, and the aligned faces in Image/aligned beside its folder."""
    file = _raf_list(path)
    assert file is not None
    lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
    names = [line[0] for line in lines]
    folders = [root / "Image" / "aligned" for root in (file.parent, file.parent.parent)]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise InputError(f"{folders[-1]}: no such folder; expected RAF-DB's aligned faces there")
    sources: list[Source] = []
    for name in names:
        aligned = folder / f"{Path(name).stem}_aligned.jpg"
        sources.append(aligned if aligned.is_file() else folder / name)
    labels = _names_of(np.array([float(line[1]) for line in lines]), RAF_CLASSES, 1, str(file))
    return LabelledRows(Pictures(names, sources), labels, [name.split("_")[0] for name in names])


def _raf_list(path: Path) -> Path | None:
    if path.name == RAF_LIST and path.is_file():
        return path
    places = (path, path / "EmoLabel", path / "basic" / "EmoLabel")
    return next((place / RAF_LIST for place in places if (place / RAF_LIST).is_file()), None)


def _read_table(path: Path) -> LabelledRows:
    """Parquet or csv with label, and jpeg (bytes) or path; a column split says train or test."""
    pictures, columns = read_picture_table(path, {"label": "text"})
    kept = [i for i, label in enumerate(columns["label"]) if label]
    labels = [columns["label"][i] for i in kept]
    splits, groups = columns.get("split"), groups_of(columns)
    chosen = None if splits is None else [splits[i] or "" for i in kept]
    return LabelledRows(pictures.subset(kept), labels, chosen, None if groups is None else groups[kept])


def _read_split_folders(path: Path) -> LabelledRows:
    """Folders train and test, each with a folder per class."""
    files: list[Path] = []
    labels: list[str] = []
    splits: list[str] = []
    for folder in subfolders(path):
        if folder.name.lower() in SPLIT_NAMES:
            part = _read_class_folders(folder)
            files += [source for source in part.pictures.sources if isinstance(source, Path)]
            labels += part.labels
            splits += [folder.name] * len(part.labels)
    return LabelledRows(_files(files, path), labels, splits)


def _read_class_folders(path: Path) -> LabelledRows:
    files = [(file, folder.name) for folder in subfolders(path) for file in pictures_under(folder)]
    return LabelledRows(_files([file for file, _ in files], path), [label for _, label in files])


def _files(files: Sequence[Path], root: Path) -> Pictures:
    return Pictures([file.relative_to(root).as_posix() for file in files], list(files))


def _names_of(numbers: np.ndarray, classes: Sequence[str], first: int, where: str) -> list[str]:
    for number in numbers:
        if number not in range(first, first + len(classes)):
            raise InputError(f"{where}: found {number:g}, expected {first} to {first + len(classes) - 1}")
    return [classes[int(number) - first] for number in numbers]


def _has_columns(*names: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and is_table(path) and set(names) <= set(column_names(path))


def _has_annotations(path: Path) -> bool:
    return any((folder / "annotations").is_dir() for folder in (path, path / "train_set", path / "val_set"))


def _has_split_folders(path: Path) -> bool:
    return path.is_dir() and any(SPLIT_NAMES.get(folder.name.lower()) == "train" for folder in subfolders(path))


def _has_class_folders(path: Path) -> bool:
    return path.is_dir() and any(is_picture(file) for folder in subfolders(path) for file in folder.rglob("*"))


READERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], LabelledRows]], ...] = (
    (_has_columns("emotion", "pixels"), _read_fer_csv),
    (_has_columns("subDirectory_filePath", "expression"), _read_affectnet_csv),
    (lambda path: path.is_file() and is_table(path), _read_table),
    (lambda path: _raf_list(path) is not None, _read_raf_db),
    (_has_annotations, _read_affectnet_folder),
    (_has_split_folders, _read_split_folders),
    (_has_class_folders, _read_class_folders),
)
