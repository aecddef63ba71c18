"""Turns what the user names (files, folders, globs, URLs, a list file) into a list of sources."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fcvideo.errors import InputError

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mj2", ".f4v", ".mkv", ".webm", ".avi", ".divx", ".ts", ".mts"),
        *(".m2ts", ".mpg", ".mpeg", ".m2v", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".mxf", ".nut", ".ivf", ".rm"),
        *(".rmvb", ".dv", ".gif", ".mjpeg", ".y4m"),
    )
)
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"))
URL_SCHEMES = ("http", "https", "s3", "gs", "az", "abfs", "hf")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Source:
    """One input, a video or a picture. `path` can be opened: a local path or a URL; `name` is unique within the run."""

    path: str
    name: str

    @property
    def scheme(self) -> str | None:
        """The URL's scheme; None for a local file."""
        return url_scheme(self.path)

    @property
    def is_image(self) -> bool:
        """By its suffix; a GIF counts as a video."""
        path = self.path if self.scheme is None else self.path.partition("?")[0]
        return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def url_scheme(text: str) -> str | None:
    match = _URL.match(text)
    return match.group(1).lower() if match else None


def resolve_inputs(inputs: Sequence[str], limit: int | None = None, images: bool = False) -> list[Source]:
    """Sources in the order given, folders sorted by path; the same file given twice counts once.

    A folder stands for the videos in it, with `images` for its pictures too.

    The name of a file in a folder is relative to that folder; any other name is as given. Names that would be equal
    get the folder in front. Errors: InputError for a path that is not there, a scheme not in URL_SCHEMES, or nothing.
    """
    found: dict[str, tuple[str, ...]] = {}
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if images else VIDEO_SUFFIXES
    for text in inputs:
        for path, candidates in _expand(text, Path(), suffixes):
            found.setdefault(path, candidates)
    if not found:
        raise InputError("found no input, expected files, folders, globs, URLs or a .txt list")
    names = _unique_names(list(found.values()))
    return [Source(path, name) for path, name in zip(found, names, strict=True)][:limit]


def _expand(
    text: str, base: Path, suffixes: frozenset[str], is_list: bool = False
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Pairs of (openable path, names to choose from, shortest first)."""
    scheme = url_scheme(text)
    if scheme is not None:
        if scheme not in URL_SCHEMES:
            raise InputError(f"{text}: found the scheme {scheme}://, expected one of {', '.join(URL_SCHEMES)}")
        yield text, (text,)
        return
    path = base / Path(text).expanduser()
    if path.is_dir():
        yield from _expand_folder(path, text, suffixes)
    elif path.exists():
        if path.suffix.lower() == ".txt":
            if is_list:
                raise InputError(f"{path}: found a list within a list, expected a video")
            yield from _expand_list(path, suffixes)
        else:
            yield _entry(path, text)
    elif glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207, a glob may be absolute
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise InputError(f"{text}: found no file that matches, expected at least one")
        for file in files:
            yield _entry(file, str(file))
    else:
        raise InputError(f"{path}: found nothing there, expected a video file, a folder, a glob or a .txt list")


def _expand_folder(folder: Path, text: str, suffixes: frozenset[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    num_files = 0
    for file in sorted(folder.rglob("*")):
        relative = file.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in relative.parts)
        if file.suffix.lower() in suffixes and not is_hidden and file.is_file():
            num_files += 1
            path, longer_names = _entry(file, str(Path(text) / relative))
            yield path, (relative.as_posix(), *longer_names)
    if not num_files:
        kind = "a video's or picture's suffix" if suffixes >= IMAGE_SUFFIXES else "a video's suffix"
        raise InputError(f"{folder}: found no file with {kind} in this folder, expected at least one")


def _expand_list(path: Path, suffixes: frozenset[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A line is any input but another list; relative paths start at the list's folder; # begins a comment line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: found {error}, expected a text file with one input a line") from None
    entries = [line.strip() for line in lines]
    entries = [entry for entry in entries if entry and not entry.startswith("#")]
    if not entries:
        raise InputError(f"{path}: found an empty list, expected one input a line")
    for entry in entries:
        try:
            yield from _expand(entry, path.parent, suffixes, is_list=True)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def _entry(file: Path, given: str) -> tuple[str, tuple[str, ...]]:
    absolute = str(file.resolve())
    return absolute, (Path(given).as_posix(), absolute)


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
