"""OUT.parts/ while a run is under way: what lies there is done, everything else is done again.

run.json                     the run's identity: whatever decides what the rows say
lock                         held by the process that works here
<video>/video.json           what is known of a video before it is read
<video>/00003-000.parquet    rows of its segment 3; a long segment has several, `-end` names the last
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fcvideo.atomic import FolderLock, clear_leftovers, remove_folder, write_json, written_atomically
from fcvideo.errors import OutputError
from fcvideo.tables.schema import DICTIONARY_COLUMNS, metadata_of, with_metadata

PART_NAME = re.compile(r"(\d{5,})-(\d{3,})(-end)?\.parquet")


def video_key(video: str) -> str:
    """Folder name of a video's parts; `video` may hold slashes and be of any length."""
    return hashlib.sha256(video.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def inputs_key(names: Iterable[str]) -> str:
    """Tells the inputs of one run from those of another, in whatever order."""
    return video_key("\n".join(sorted(names)))


@dataclass(frozen=True)
class Begun:
    """What a run finds of the one before it."""

    is_resumed: bool  # there are parts to go on with
    replaces: bool  # the result that stands there is to be thrown away, as `--overwrite` said now or then


@dataclass(frozen=True)
class Part:
    """The place of some rows of one segment."""

    folder: Path  # of all parts
    key: str  # video_key
    segment: int
    chunk: int  # position in the segment
    is_last: bool  # of its segment

    @property
    def path(self) -> Path:
        end = "-end" if self.is_last else ""
        return self.folder / self.key / f"{self.segment:05d}-{self.chunk:03d}{end}.parquet"

    def write(self, rows: pa.Table, record: dict[str, Any]) -> None:
        """`record` is kept in the file's metadata; `read_record` gives it back."""
        table = rows.replace_schema_metadata(with_metadata(rows.schema, record).metadata)
        with written_atomically(self.path) as unfinished:
            pq.write_table(table, unfinished, compression="zstd", use_dictionary=DICTIONARY_COLUMNS)


def read_record(path: Path) -> dict[str, Any]:
    return metadata_of(pq.read_schema(path)) or {}


class Parts:
    """The parts of one run. Reading needs nothing; writing needs `claim` first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FolderLock(folder)

    def run(self) -> dict[str, Any]:
        """What `claim` wrote down: `identity`, and `replaces`, the inputs with which the result there is thrown away.

        Empty where nothing is. Errors: OutputError for a folder of that name that holds something else.
        """
        try:
            return json.loads((self.folder / "run.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            if self.folder.is_dir() and any(entry.name != "lock" for entry in self.folder.iterdir()):
                raise OutputError(
                    f"{self.folder}: holds files that are not parts of a run; choose another --out"
                ) from None
            return {}
        except (OSError, ValueError) as error:
            raise OutputError(f"{self.folder}: not a run's parts ({error})") from None

    def begun(self, identity: dict[str, Any], inputs: str, *, overwrite: bool) -> Begun:
        """What a run of these inputs (`inputs_key`) finds. One begun with `overwrite` and killed is gone on
        with when the same inputs come again, with or without it; other inputs do not inherit its permission.

        Errors: OutputError for parts of another identity, unless they are to be overwritten.
        """
        found = self.run()
        is_same = found.get("replaces") == inputs and found["identity"] == identity
        if overwrite:
            return Begun(is_resumed=is_same, replaces=True)
        if found:
            refuse_other_identity(self.folder, found["identity"], identity)
        return Begun(is_resumed=bool(found), replaces=is_same)

    def claim(self, identity: dict[str, Any], inputs: str, *, overwrite: bool) -> Begun:
        """Takes the folder for this run; what it finds there is told as `begun` does, now that nobody else changes it.

        Errors: OutputError where another process is at work, or another identity was.
        """
        self._lock.take()
        clear_leftovers(self.folder.parent, self.folder.name)
        begun = self.begun(identity, inputs, overwrite=overwrite)
        if overwrite and not begun.is_resumed:
            for folder in self._video_folders():
                remove_folder(folder)
        write_json(self.folder / "run.json", {"identity": identity, "replaces": inputs if begun.replaces else None})
        return begun

    def release(self) -> None:
        self._lock.release()

    def remove(self, keys: Iterable[str]) -> None:
        """Drops the videos that are in the result now; and the whole folder, unless it holds others of another call."""
        for key in keys:
            self.discard_video(key)
        if self._video_folders():
            write_json(self.folder / "run.json", self.run() | {"replaces": None})
        else:
            remove_folder(self.folder)
        self.release()

    def _video_folders(self) -> list[Path]:
        return [entry for entry in self.folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]

    def read_video(self, key: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / key / "video.json").read_text())
        except FileNotFoundError:
            return None

    def write_video(self, key: str, known: dict[str, Any]) -> None:
        (self.folder / key).mkdir(exist_ok=True)
        write_json(self.folder / key / "video.json", known)

    def discard_video(self, key: str) -> None:
        if (self.folder / key).is_dir():
            remove_folder(self.folder / key)

    def finished(self, key: str) -> dict[int, list[Path]]:
        """Segment -> its parts in order, for the segments whose last part is there."""
        folder = self.folder / key
        chunks: dict[int, dict[int, Path]] = {}
        last: dict[int, int] = {}
        for name in sorted(entry.name for entry in folder.glob("*.parquet")):
            if match := PART_NAME.fullmatch(name):
                segment, chunk = int(match[1]), int(match[2])
                if match[3]:
                    last[segment] = min(chunk, last.get(segment, chunk))
                if match[3] or chunk not in chunks.get(segment, {}):
                    chunks.setdefault(segment, {})[chunk] = folder / name
        return {
            segment: [chunks[segment][chunk] for chunk in range(final + 1)]
            for segment, final in sorted(last.items())
            if all(chunk in chunks[segment] for chunk in range(final + 1))
        }


def refuse_other_identity(place: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """OutputError that names what differs, when `found` is not `wanted`."""
    differences = [f"{name} {found.get(name)!r}, not {wanted.get(name)!r}" for name in _differing(found, wanted)]
    if differences:
        raise OutputError(
            f"{place}: was made with {' and '.join(differences)}; --overwrite starts anew, another --out keeps both"
        )


def _differing(found: dict[str, Any], wanted: dict[str, Any]) -> Iterable[str]:
    return (name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name))
