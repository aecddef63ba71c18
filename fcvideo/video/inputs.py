"""Turns what the user names (files, folders, globs, URLs, a list file) into a list of sources."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fcvideo.errors import InputError
from fcvideo.text import public_text
from fcvideo.video.kind import Kind, kind_by_content, kind_by_name

URL_SCHEMES = ("http", "https", "s3", "gs", "az", "abfs", "hf")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PASSED_OVER_SHOWN = 3


@dataclass(frozen=True)
class Source:
    """One input, a video or a picture. `path` can be opened: a local path or a URL; `name` is unique within the run.

    `name` may be shown and stored: valid text without a URL's secrets. `kind` None: what the path's suffix says.
    `place` is where it lies in the folder that it was found in, or its file's name, as it was given.
    """

    path: str
    name: str
    kind: Kind | None = None
    place: str = ""

    @property
    def scheme(self) -> str | None:
        """The URL's scheme; None for a local file."""
        return url_scheme(self.path)

    @property
    def is_image(self) -> bool:
        """A picture that moves counts as a video."""
        return (self.kind or kind_by_name(self.path)) == "image"


def url_scheme(text: str) -> str | None:
    match = _URL.match(text)
    return match.group(1).lower() if match else None


def local_path(text: str) -> Path:
    """With ~ for the home; a ~ of nobody's is part of the name, as in the shell."""
    return Path(os.path.expanduser(text))  # noqa: PTH111, Path's own raises for it


def special_file(path: str | os.PathLike[str]) -> str | None:
    """What a path is that is neither file nor folder and may block whoever opens it. Errors: OSError."""
    mode = os.stat(path).st_mode  # noqa: PTH116, for a million files
    kinds = {stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    return next((kind for is_kind, kind in kinds.items() if is_kind(mode)), None)


def _names(path: str, *shorter: str) -> tuple[str, ...]:
    """To choose from: as shown, and a last one for paths that differ only in what is not shown."""
    names = tuple(public_text(name) for name in (*shorter, path))
    if names[-1] == path:
        return names
    return (*names, f"{names[-1]}#{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}")


class _Found(NamedTuple):
    path: str
    names: tuple[str, ...]  # to choose from, shortest first
    kind: Kind | None
    place: str = ""


def tell(text: str) -> None:
    print(text, file=sys.stderr)


def resolve_inputs(
    inputs: Sequence[str], limit: int | None = None, images: bool = False, say: Callable[[str], None] = tell
) -> list[Source]:
    """Sources in the order given, folders sorted by path; the same file given twice counts once.

    A folder stands for the videos in it, with `images` for its pictures too; what else is in it is told to `say`. Kinds
    go by suffix; where there is none, and with `images`, by content.

    The name of a file in a folder is relative to that folder; any other name is as given. Names that would be equal
    get the folder in front. Errors: InputError for a path that is not there, a scheme not in URL_SCHEMES, or nothing.
    """
    found: dict[str, _Found] = {}
    expand = _Expansion(images, say)
    for text in inputs:
        for one in expand(text, Path()):
            found.setdefault(one.path, one)
    if not found:
        raise InputError("found no input, expected files, folders, globs, URLs or a .txt list")
    names = _unique_names([one.names for one in found.values()])
    return [Source(one.path, name, one.kind, one.place) for one, name in zip(found.values(), names, strict=True)][
        :limit
    ]


class _Expansion:
    """From one of the user's words to files."""

    def __init__(self, images: bool, say: Callable[[str], None]) -> None:
        self._images, self._say = images, say

    def __call__(self, text: str, base: Path, is_list: bool = False) -> Iterator[_Found]:
        scheme = url_scheme(text)
        if scheme is not None:
            if scheme not in URL_SCHEMES:
                raise InputError(f"{text}: found the scheme {scheme}://, expected one of {', '.join(URL_SCHEMES)}")
            yield _Found(text, _names(text), kind_by_name(text))
            return
        path = base / local_path(text)
        try:
            special = special_file(path)
        except FileNotFoundError:
            if not glob.has_magic(text):
                message = f"{path}: found nothing there, expected a video file, a folder, a glob or a .txt list"
                raise InputError(message) from None
            yield from self._glob(path, text)
            return
        except OSError as error:
            raise InputError(f"{path}: cannot be opened ({error.strerror}), expected a file or a folder") from None
        if special:
            raise InputError(f"{path}: found {special}, expected a file; write what it gives into one first")
        if path.is_dir():
            yield from self._folder(path, text)
        elif path.suffix.lower() != ".txt":
            yield self._file(path, text)
        elif is_list:
            raise InputError(f"{path}: found a list within a list, expected a video")
        else:
            yield from self._list(path)

    def _glob(self, pattern: Path, text: str) -> Iterator[_Found]:
        matches = sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207, a glob may be absolute
        files = [match for match in matches if os.path.isfile(match)]  # noqa: PTH113
        if not files:
            raise InputError(f"{text}: found no file that matches, expected at least one")
        for file in files:
            yield self._file(Path(file), file)
        taken = set(files)
        if others := [match for match in matches if match not in taken and "**" not in text]:
            self._say(f"{text}: passed over {len(others):,} that are no files, such as {public_text(others[0])}")

    def _folder(self, folder: Path, text: str) -> Iterator[_Found]:
        passed_over = _PassedOver()
        num_files = 0
        for entry, relative in _walk(os.path.realpath(folder), passed_over):
            kind = kind_by_name(entry.name)
            path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            if "." not in entry.name or (kind and self._images):
                kind = _sniffed(path, entry.name) or kind
            if kind == "video" or (kind == "image" and self._images):
                num_files += 1
                names = _names(path, relative, (Path(text) / relative).as_posix())
                yield _Found(path, names, kind, names[0])
            else:
                passed_over.add(PurePosixPath(entry.name).suffix.lower() or "without a suffix", relative)
        if not num_files:
            kinds = "a video's or picture's suffix" if self._images else "a video's suffix"
            seen = f" ({passed_over})" if passed_over else ""
            raise InputError(f"{folder}: found no file with {kinds} in this folder{seen}, expected at least one")
        if passed_over:
            self._say(f"{public_text(text)}: passed over {passed_over}")

    def _list(self, path: Path) -> Iterator[_Found]:
        """A line is any input but another list; relative paths start at the list's folder; # begins a comment line."""
        try:
            lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        except OSError as error:
            raise InputError(f"{path}: found {error}, expected a text file with one input a line") from None
        entries = [line.strip() for line in lines]
        entries = [entry for entry in entries if entry and not entry.startswith("#")]
        if not entries:
            raise InputError(f"{path}: found an empty list, expected one input a line")
        for entry in entries:
            try:
                yield from self(entry, path.parent, is_list=True)
            except InputError as error:
                raise InputError(f"{path}: {error}") from None

    def _file(self, file: Path, given: str) -> _Found:
        path, kind = str(file.resolve()), kind_by_name(given)
        if kind is None or self._images:
            kind = _sniffed(path, given) or kind
        return _Found(path, _names(path, Path(given).as_posix()), kind, public_text(Path(given).name))


def _unique_names(candidates: list[tuple[str, ...]]) -> list[str]:
    levels = [0] * len(candidates)
    while True:
        names = [options[level] for options, level in zip(candidates, levels, strict=True)]
        counts = Counter(names)
        clashing = [i for i, name in enumerate(names) if counts[name] > 1 and levels[i] + 1 < len(candidates[i])]
        if not clashing:
            return names
        for i in clashing:
            levels[i] += 1


class _PassedOver:
    """What of a folder is not taken."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: list[str] = []

    def add(self, kind: str, relative: str) -> None:
        self._counts[kind] += 1
        if len(self._first) < _PASSED_OVER_SHOWN:
            self._first.append(public_text(relative))

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __str__(self) -> str:
        """One line: counts by suffix or by what it is, and the first few names."""
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self._counts.most_common())
        more = ", .." if self._counts.total() > len(self._first) else ""
        return f"{counts} ({', '.join(self._first)}{more})"


def _walk(root: str, passed_over: _PassedOver) -> Iterator[tuple[os.DirEntry[str], str]]:
    """The files below a folder and their relative paths, sorted. Links to folders elsewhere are entered, once each."""
    entered: set[str] = set()

    def enter(folder: str, relative: str) -> Iterator[tuple[os.DirEntry[str], str]]:
        if folder in entered:
            return
        entered.add(folder)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if not relative:
                raise InputError(f"{folder}: cannot be opened ({error.strerror}), expected a folder") from None
            passed_over.add(f"folders that cannot be opened ({error.strerror})", relative)
            return
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.name.startswith("."):
                passed_over.add("hidden", path)
            elif entry.is_dir():
                real = os.path.realpath(entry.path)
                if not entry.is_symlink() or not _is_found_anyway(real, root):
                    yield from enter(real, path)
            elif entry.is_file():
                yield entry, path
            else:
                passed_over.add(_odd(entry), path)

    yield from enter(root, "")


def _is_found_anyway(real: str, root: str) -> bool:
    """Whether a folder lies openly in the tree, where it has a name of its own."""
    relative = Path(os.path.relpath(real, root))
    return not any(part.startswith(".") for part in relative.parts)  # '..' does, too


def _odd(entry: os.DirEntry[str]) -> str:
    try:
        return special_file(entry.path) or "special files"
    except OSError:
        return "broken links"


def _sniffed(path: str, name: str) -> Kind | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return kind_by_content(file, name)
    except OSError:  # told when it is read
        return None
