"""Single columns of other people's tables, Parquet or csv, checked and in plain Python and numpy types."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from fcvideo.errors import InputError

Kind = Literal[
    "text",  # list of str, None for null; whole numbers lose their point, as pandas writes labels with gaps
    "number",  # (N,) float64, NaN for null; truth values are 1 and 0
    "bytes",  # list of bytes, None for null; also of Hugging Face's {bytes, path}
    "vector",  # (N, D) float32, NaN for null
]
EXPECTED = {"text": "text", "number": "a number", "bytes": "bytes", "vector": "a list of numbers"}
SPELLED = {"true": 1.0, "false": 0.0} | dict.fromkeys(("", "null", "none", "na"), float("nan"))


def is_table(path: Path) -> bool:
    """Whether the name is one of a table that can be read here."""
    return path.suffix.lower() in (".parquet", ".csv")


def column_names(path: Path) -> list[str]:
    """Names of a table's columns, in its order. Errors: InputError."""
    return _schema(path).names


def read_columns(
    path: Path, required: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None, rows: np.ndarray | None = None
) -> dict[str, Any]:
    """The columns of `required`, and those of `optional` that are there, in the types of `Kind`.

    `path` may be a folder of Parquet files, read in order of name. `rows`: ascending positions, all by default; only
    their row groups are read. Errors: InputError for a missing column or a value of another kind.
    """
    schema = _schema(path)
    if missing := [name for name in required if name not in schema.names]:
        found = ", ".join(schema.names)
        raise InputError(f"{path}: no column {missing[0]}; found {found}; expected {', '.join(required)}")
    kinds = dict(required) | {name: kind for name, kind in (optional or {}).items() if name in schema.names}
    if not kinds:
        return {}
    tables, start = [], 0
    for table in _read(path, list(kinds)):
        kept = table
        if rows is not None:
            first, last = np.searchsorted(rows, [start, start + len(table)])
            kept = table.take(pa.array(rows[first:last] - start))
        start += len(table)
        tables.append(kept)
    whole = pa.concat_tables(tables) if tables else schema.empty_table().select(list(kinds))
    return {name: _convert(whole[name], kind, f"{path}: column {name}") for name, kind in kinds.items()}


def _schema(path: Path) -> pa.Schema:
    if path.is_file() and path.suffix.lower() == ".csv":
        return pa.schema([(name, pa.string()) for name in _header(path)])
    try:
        with pq.ParquetFile(_parquet_files(path)[0]) as parquet:
            return parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file that can be read ({_first_line(error)})") from None


def _parquet_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    if not (files := sorted(path.glob("*.parquet"))):
        raise InputError(f"{path}: holds no .parquet file")
    return files


def _header(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a csv file that can be read ({_first_line(error)})") from None


def _read(path: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """Row group by row group; a csv file whole."""
    try:
        if path.is_file() and path.suffix.lower() == ".csv":
            yield _read_csv(path, names)
            return
        for file in _parquet_files(path):
            with pq.ParquetFile(file) as parquet:
                for group in range(parquet.num_row_groups):
                    yield parquet.read_row_group(group, columns=list(names))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path}: cannot be read ({_first_line(error)})") from None


def _read_csv(path: Path, names: Sequence[str]) -> pa.Table:
    """All columns as text: inferred types would turn the name 0001 into 1."""
    header = _header(path)
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=header, skip_rows=1),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), include_columns=list(names)
        ),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
    )


def _convert(column: pa.ChunkedArray, kind: Kind, where: str) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        if kind == "text":
            return _text(column)
        if kind == "number":
            return _number(column, where)
        return _bytes(column) if kind == "bytes" else vectors(column)
    except (pa.ArrowException, TypeError, ValueError):
        raise InputError(f"{where}: found {column.type}, expected {EXPECTED[kind]}") from None


def _text(column: pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_floating(column.type):
        values = column.drop_null()
        if pc.all(pc.equal(values, pc.floor(values))).as_py() is not False:
            column = column.cast(pa.int64())
    return [value if value is None else value.strip() for value in column.cast(pa.string()).to_pylist()]


def _number(column: pa.ChunkedArray, where: str) -> np.ndarray:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        plain = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        return plain.cast(pa.float64()).to_numpy()
    values = np.empty(len(column))
    for row, text in enumerate(column.to_pylist()):
        plain_text = (text or "").strip().lower()
        try:
            values[row] = SPELLED[plain_text] if plain_text in SPELLED else float(plain_text)
        except ValueError:
            raise InputError(f"{where}, row {row}: found {text!r}, expected a number") from None
    return values


def _bytes(column: pa.ChunkedArray) -> list[bytes | None]:
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise TypeError
    return column.to_pylist()


def vectors(column: pa.ChunkedArray) -> np.ndarray:
    """(N, D) float32 of lists of D numbers, NaN for null. Errors: ValueError for lists of several lengths."""
    lengths = pc.unique(pc.list_value_length(column.drop_null())).to_pylist()
    if len(lengths) > 1:
        raise ValueError
    values = np.full((len(column), lengths[0] if lengths else 0), np.nan, np.float32)
    valid = column.is_valid().to_numpy()
    values[valid] = pc.list_flatten(column.drop_null()).cast(pa.float32()).to_numpy().reshape(valid.sum(), -1)
    return values


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
