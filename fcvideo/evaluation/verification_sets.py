"""Pairs of pictures that show one person or two: LFW's and CPLFW's lists, tables of pairs, pairs drawn among people."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from fcvideo.errors import InputError
from fcvideo.evaluation.listing import pictures_under, read_picture_table
from fcvideo.evaluation.pictures import PairSet, Pictures
from fcvideo.tables.columns import column_names, is_table, read_columns

NUM_FOLDS = 10
NUM_DRAWN = 3000  # of each kind, as LFW has
Pair = tuple[str, str, bool]


def read_pair_set(images: Path, pairs: Path | None, seed: int = 0) -> PairSet:
    """The pairs of a list or table over the pictures of a folder or table; without a list, pairs drawn among people.

    Errors: InputError.
    """
    if pairs is None:
        return _draw_among_people(images, seed)
    pictures = _read_pictures(images)
    found = _read_pairs(pairs)
    index = _index_names(pictures.names)
    first = _look_up([a for a, _, _ in found], index, pairs, images)
    second = _look_up([b for _, b, _ in found], index, pairs, images)
    same = np.array([is_same for _, _, is_same in found])
    used, positions = np.unique(np.concatenate([first, second]), return_inverse=True)
    count = len(found)
    return PairSet(pictures.subset(used), positions[:count], positions[count:], same, _folds_by_order(count))


def draw_pairs(
    persons: Sequence[str | None], clips: Sequence[str | None] | None = None, seed: int = 0, limit: int = NUM_DRAWN
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First, second (P,) int64, same (P,) bool and folds (P,) of up to `limit` pairs of each kind, people drawn evenly.

    One person's pictures come from different clips, where `clips` are known. Errors: InputError when none can be drawn.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, dict[str, list[int]]] = {}
    for row, person in enumerate(persons):
        if person:
            clip = str(row) if clips is None else clips[row] or str(row)
            rows.setdefault(person, {}).setdefault(clip, []).append(row)
    several = [person for person, of in rows.items() if len(of) > 1]
    if not several or len(rows) < 2:
        raise InputError("no pairs: expected two people or more, and one of them in two clips or pictures")

    def draw(people: Sequence[str], num_people: int) -> tuple[int, int]:
        chosen = rng.choice(len(people), num_people, replace=False)
        if num_people == 1:
            groups = list(rows[people[chosen[0]]].values())
            sides = [groups[i] for i in rng.choice(len(groups), 2, replace=False)]
        else:
            sides = [[row for group in rows[people[i]].values() for row in group] for i in chosen]
        a, b = (int(side[rng.integers(len(side))]) for side in sides)
        return min(a, b), max(a, b)

    same = _distinct(lambda: draw(several, 1), limit)
    different = _distinct(lambda: draw(list(rows), 2), len(same))
    both = np.array(same + different)
    is_same = np.arange(len(both)) < len(same)
    return both[:, 0], both[:, 1], is_same, _folds_in_turn(is_same)


def _distinct(draw: Callable[[], tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Up to `limit` different pairs, in the order drawn; fewer when new ones hardly come any more."""
    found: dict[tuple[int, int], None] = {}
    for _ in range(20 * limit):
        if len(found) == limit:
            break
        found[draw()] = None
    return list(found)


def _draw_among_people(images: Path, seed: int) -> PairSet:
    """A table with a person column (and source, clip where known), or a folder per person."""
    clips: Sequence[str | None] | None = None
    persons: Sequence[str | None]
    if images.is_file() and is_table(images):
        if "person" not in column_names(images):
            raise InputError(f"{images}: no column person to draw pairs by; expected it, or --pairs")
        pictures, columns = read_picture_table(images, {"person": "text"})
        clips, sources = columns.get("clip"), columns.get("source") or [None] * len(pictures)
        persons = [None if not p else f"{s or ''}/{p}" for s, p in zip(sources, columns["person"], strict=True)]
    else:
        pictures = _read_pictures(images)
        persons = [Path(name).parent.as_posix() for name in pictures.names]
    try:
        first, second, same, folds = draw_pairs(persons, clips, seed)
    except InputError as error:
        raise InputError(f"{images}: {error}, or --pairs") from None
    used, positions = np.unique(np.concatenate([first, second]), return_inverse=True)
    return PairSet(pictures.subset(used), positions[: len(same)], positions[len(same) :], same, folds)


def _read_pictures(images: Path) -> Pictures:
    """Ready crops of a table; whole pictures of a folder, named by their paths in it."""
    if images.is_file():
        pictures, columns = read_picture_table(images, {})
        if None in columns["name"]:
            raise InputError(f"{images}: column name holds nulls; expected a name for every picture")
        return pictures
    if not images.is_dir():
        raise InputError(f"{images}: no such file or folder")
    files = pictures_under(images)
    if not files:
        raise InputError(f"{images}: holds no pictures")
    return Pictures([file.relative_to(images).as_posix() for file in files], list(files), are_crops=False)


def _read_pairs(path: Path) -> list[Pair]:
    """Errors: InputError."""
    if path.suffix.lower() == ".parquet" or (is_table(path) and {"a", "b", "same"} <= set(column_names(path))):
        columns = read_columns(path, {"a": "text", "b": "text", "same": "number"})
        for row, value in enumerate(columns["same"]):
            if value not in (0, 1):
                raise InputError(f"{path}: column same, row {row}: found {value:g}, expected 0 or 1")
        pairs = [(a or "", b or "", bool(s)) for a, b, s in zip(*columns.values(), strict=True)]
    else:
        pairs = _read_pair_list(path)
    if len({same for _, _, same in pairs}) < 2:
        raise InputError(f"{path}: found {len(pairs)} pairs; expected pairs of one person and pairs of two")
    return pairs


def _read_pair_list(path: Path) -> list[Pair]:
    """LFW's pairs.txt (name 1 2, or name 1 other 2; also as csv), or CPLFW's (file 0 or 1, two lines a pair)."""
    try:
        lines = [re.split(r"[\t,]\s*| +", line.strip(" \t\r,")) for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    lines = [line for line in lines if any(line)]
    if lines and (all(f.isdigit() for f in lines[0]) or not any(f.isdigit() for f in lines[0])):
        del lines[0]  # the number of folds and pairs, or a header
    if lines and all(len(line) == 2 and line[1].isdigit() for line in lines) and len(lines) % 2 == 0:
        return [(a[0], b[0], a[1] != "0") for a, b in zip(lines[::2], lines[1::2], strict=True)]
    pairs = []
    for number, line in enumerate(lines, 1):
        if len(line) == 3 and line[1].isdigit() and line[2].isdigit():
            pairs.append((_lfw_name(line[0], line[1]), _lfw_name(line[0], line[2]), True))
        elif len(line) == 4 and line[1].isdigit() and line[3].isdigit():
            pairs.append((_lfw_name(line[0], line[1]), _lfw_name(line[2], line[3]), False))
        else:
            raise InputError(
                f"{path}: pair {number}: found {' '.join(line)!r}; expected LFW's 'name 1 2' or 'name 1 other 2', "
                "CPLFW's 'file 1', or a table of a, b, same"
            )
    return pairs


def _lfw_name(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04d}"


def _index_names(names: Sequence[str]) -> dict[str, int]:
    """Position by name, also without folder or ending; where these are not unique, by the longer name alone."""
    index: dict[str, int] = {}
    ambiguous = set()
    for position, name in enumerate(names):
        path = PurePosixPath(name)
        for short in {path.with_suffix("").as_posix(), path.name, path.stem} - {name}:
            if index.setdefault(short, position) != position:
                ambiguous.add(short)
    for short in ambiguous:
        del index[short]
    return index | {name: position for position, name in enumerate(names)}


def _look_up(wanted: Sequence[str], index: dict[str, int], pairs: Path, images: Path) -> np.ndarray:
    positions = np.empty(len(wanted), np.int64)
    for row, name in enumerate(wanted):
        path = PurePosixPath(name)
        at = next((index[n] for n in (name, path.with_suffix("").as_posix(), path.name, path.stem) if n in index), None)
        if at is None:
            raise InputError(f"{pairs}: pair {row + 1} names {name!r}, which {images} does not hold")
        positions[row] = at
    return positions


def _folds_by_order(count: int) -> np.ndarray:
    return np.arange(count) * NUM_FOLDS // count


def _folds_in_turn(same: np.ndarray) -> np.ndarray:
    """Every fold gets as many pairs of each kind."""
    folds = np.empty(len(same), np.int64)
    for kind in (True, False):
        folds[same == kind] = np.arange((same == kind).sum()) % NUM_FOLDS
    return folds
