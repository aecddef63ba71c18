"""Face clips on disk: Parquet shards with a row per clip, and tables of ready crops read as if they were clips.

Only id columns are held in memory; pictures are read a row group at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fcvideo.clips.shards import CLIP_SCHEMA, UNFINISHED, VIDEOS_SUFFIX
from fcvideo.errors import InputError, first_line
from fcvideo.tables.schema import metadata_of

CROP_COLUMNS = ("source", "person", "clip", "frame", "name", "jpeg")


class ClipStore:
    """Clips of `path`: a folder of shards, one shard, a table of ready crops, or several of these with commas between.

    Clips keep the order of the files; a person is one wherever the same name (and source) returns below the same
    path, and a clip of unknown person is a person of its own. `limit` keeps the first clips only. Picklable. For one
    thread; a copy per loading process.
    """

    def __init__(self, path: str | Path, limit: int | None = None, cache_bytes: int = 256 << 20) -> None:
        self.path = str(path)
        self.cache_bytes = cache_bytes
        self._tables: list[_Table] = []
        persons: list[np.ndarray] = []
        num_numbered = 0
        for part in str(path).split(","):
            tables = [_read_index(file) for file in _list_files(Path(part.strip()))]
            numbers, num_numbered = _number_persons(tables, num_numbered)
            self._tables += tables
            persons += numbers
        self.persons = np.concatenate(persons)[:limit]  # (clips,) int64, from 0
        # (clips,) int64, frames of each clip
        self.clip_lengths = np.concatenate([table.lengths for table in self._tables])[:limit]
        self._first_clip = np.cumsum([0, *(len(table.lengths) for table in self._tables)])
        self._first_group = np.cumsum([0, *(len(table.group_starts) - 1 for table in self._tables)])
        self._cache: OrderedDict[tuple[int, int], pa.Array] = OrderedDict()
        if not len(self):
            raise InputError(f"{path}: holds no clips")

    def __len__(self) -> int:
        return len(self.clip_lengths)

    @property
    def num_frames(self) -> int:
        """Frames of all clips together."""
        return int(self.clip_lengths.sum())

    @property
    def num_row_groups(self) -> int:
        return int(self._first_group[-1])

    @property
    def metadata(self) -> dict[str, Any]:
        """What `prepare` wrote into the first shard (fps, crop_side, framing ..); empty for ready crops."""
        return self._tables[0].metadata

    def person(self, clip: int) -> int:
        return int(self.persons[clip])

    def person_name(self, clip: int) -> str | None:
        """Source and person as the table has them; None for a clip of unknown person."""
        file, local = self._locate(clip)
        name = self._tables[file].persons[local]
        return None if name is None else "/".join(filter(None, name))

    def row_group(self, clip: int) -> int:
        """Row group that holds the clip (its first frame), numbered over all files, 0 .. num_row_groups - 1."""
        file, local = self._locate(clip)
        return int(self._first_group[file] + self._tables[file].group_of(int(self._tables[file].rows(local)[0])))

    def frames(self, clip: int, positions: Sequence[int] | None = None) -> list[bytes]:
        """JPEG bytes of the clip's frames in order of time, or of those at `positions` alone."""
        file, local = self._locate(clip)
        table = self._tables[file]
        rows = table.rows(local)
        if table.column == "frames":
            group = table.group_of(int(rows[0]))
            pictures = self._read_group(file, group)[int(rows[0] - table.group_starts[group])].values
            return [pictures[int(p)].as_py() for p in (range(len(pictures)) if positions is None else positions)]
        jpegs = []
        for row in rows if positions is None else rows[np.asarray(positions, dtype=np.int64)]:
            group = table.group_of(int(row))
            jpegs.append(self._read_group(file, group)[int(row - table.group_starts[group])].as_py())
        return jpegs

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": OrderedDict()}

    def _locate(self, clip: int) -> tuple[int, int]:
        if not 0 <= clip < len(self):
            raise IndexError(f"clip {clip} of {len(self)}")
        file = int(np.searchsorted(self._first_clip, clip, side="right")) - 1
        return file, clip - int(self._first_clip[file])

    def _read_group(self, file: int, group: int) -> pa.Array:
        key = (file, group)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        table = self._tables[file]
        with pq.ParquetFile(table.path) as parquet:
            column = parquet.read_row_group(group, columns=[table.column], use_threads=False).column(0)
        pictures = pa.concat_arrays(column.chunks)
        if pictures.null_count:
            raise InputError(f"{table.path}: column {table.column} holds nulls; expected JPEG bytes in every row")
        self._cache[key] = pictures
        held = sum(array.nbytes for array in self._cache.values())
        while held > self.cache_bytes and len(self._cache) > 1:
            held -= self._cache.popitem(last=False)[1].nbytes
        return pictures


@dataclass
class _Table:
    """The index of one file: a clip is one row of `frames`, or some rows of `jpeg`."""

    path: Path
    column: str  # "frames" or "jpeg"
    metadata: dict[str, Any]
    group_starts: np.ndarray  # (row groups + 1,) first row of each
    lengths: np.ndarray  # (clips,)
    persons: list[tuple[str, str] | None]  # (source, person) of each clip
    order: np.ndarray | None = None  # (rows,) grouped by clip, in order of time

    def __post_init__(self) -> None:
        self._ends = np.cumsum(self.lengths)

    def rows(self, clip: int) -> np.ndarray:
        if self.order is None:
            return np.array([clip])
        return self.order[self._ends[clip] - self.lengths[clip] : self._ends[clip]]

    def group_of(self, row: int) -> int:
        return int(np.searchsorted(self.group_starts, row, side="right")) - 1


def _list_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    if (path / UNFINISHED).exists():
        raise InputError(f"{path}: prepare has not finished here; run it again")
    files = sorted(
        p for p in path.glob("*.parquet") if not p.name.startswith(".") and not p.name.endswith(VIDEOS_SUFFIX)
    )
    if not files:
        raise InputError(f"{path}: holds no .parquet file; expected shards of clips or tables of ready crops")
    return files


def _read_index(path: Path) -> _Table:
    try:
        parquet = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file that can be read ({first_line(error)})") from None
    with parquet:
        schema = parquet.schema_arrow
        starts = np.cumsum([0, *(parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups))])
        if all(schema.get_field_index(name) >= 0 for name in ("clip_id", "person", "num_frames", "frames")):
            return _index_of_clips(path, parquet, starts)
        if (at := schema.get_field_index("jpeg")) >= 0 and _is_binary(schema.field(at).type):
            return _index_of_crops(path, parquet, starts)
        found = ", ".join(f"{field.name} {field.type}" for field in schema)
        raise InputError(
            f"{path}: found columns {found}; expected clips ({', '.join(CLIP_SCHEMA.names)}) "
            f"or ready crops (jpeg binary, and if known {', '.join(CROP_COLUMNS[:-1])})"
        )


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _index_of_clips(path: Path, parquet: pq.ParquetFile, starts: np.ndarray) -> _Table:
    ids = parquet.read(columns=["person", "num_frames"])
    metadata = metadata_of(parquet.schema_arrow) or {}
    persons = [None if name is None else ("", name) for name in ids["person"].to_pylist()]
    return _Table(path, "frames", metadata, starts, ids["num_frames"].to_numpy().astype(np.int64), persons)


def _index_of_crops(path: Path, parquet: pq.ParquetFile, starts: np.ndarray) -> _Table:
    """Rows are grouped by (source, person, clip), wherever they stand, and ordered by `frame`."""
    known = [name for name in ("source", "person", "clip", "frame") if name in parquet.schema_arrow.names]
    num_rows = int(starts[-1])
    ids = parquet.read(columns=known) if known else None
    columns: dict[str, tuple[np.ndarray, list[str]]] = {}
    for name in ("source", "person", "clip"):
        if ids is not None and name in known:
            columns[name] = _codes(ids[name])
        else:
            columns[name] = np.full(num_rows, -1, dtype=np.int64), []
    frame = ids["frame"].to_numpy() if ids is not None and "frame" in known else np.zeros(num_rows)

    source, person, clip = (columns[name][0] for name in ("source", "person", "clip"))
    key = (source + 1) * (len(columns["person"][1]) + 1) + person + 1
    key = np.where(clip < 0, -1 - np.arange(num_rows), key * len(columns["clip"][1]) + clip)
    _, first, inverse, lengths = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    by_appearance = np.argsort(first)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(by_appearance))
    order = np.lexsort((frame, rank[inverse]))

    source_names, person_names = columns["source"][1], columns["person"][1]
    persons: list[tuple[str, str] | None] = [
        None if person[row] < 0 else ("" if source[row] < 0 else source_names[source[row]], person_names[person[row]])
        for row in first[by_appearance]
    ]
    return _Table(path, "jpeg", {}, starts, lengths[by_appearance], persons, order)


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Position of each value in a list of the different ones; -1 for null."""
    encoded: Any = column.cast(pa.string()).dictionary_encode().unify_dictionaries().combine_chunks()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [str(name) for name in encoded.dictionary.to_pylist()]


def _number_persons(tables: Sequence[_Table], first: int) -> tuple[list[np.ndarray], int]:
    """Numbers from `first` on, one array per table, and the next free number."""
    known: dict[tuple[str, str], int] = {}
    numbers, free = [], first
    for table in tables:
        column = np.empty(len(table.persons), dtype=np.int64)
        for i, person in enumerate(table.persons):
            if person is not None and person in known:
                column[i] = known[person]
                continue
            column[i] = free
            if person is not None:
                known[person] = free
            free += 1
        numbers.append(column)
    return numbers, free
