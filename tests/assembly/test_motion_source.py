"""A table that stands for the videos that it was made of: what it must hold before anything is rendered of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fcvideo.assembly.motion_source import CodeTable, Window
from fcvideo.errors import InputError
from fcvideo.tables.schema import with_metadata
from tests.tables.rows import CODE_DIM, face_rows

NAN = float("nan")


def write(path: Path, rows: pa.Table) -> Path:
    metadata = with_metadata(rows.schema, {"model": "m", "model_hash": "hash"}).metadata
    pq.write_table(rows.replace_schema_metadata(metadata), path)
    return path


def with_column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, values)


def with_value(rows: pa.Table, name: str, value: Any, row: int = 2) -> pa.Table:
    values = rows[name].to_pylist()
    values[row] = value
    return with_column(rows, name, pa.array(values, rows.schema.field(name).type))


def read(path: Path) -> list[pa.Table]:
    table = CodeTable(path, "hash", CODE_DIM)
    (source, *_) = table.sources()
    return list(table.rows(source.source.name, Window(None, None)).rows(["frame_index", "expression"]))


def test_a_row_without_a_time_or_a_face_is_no_fault(tmp_path: Path) -> None:
    rows = with_value(face_rows("a.mp4", [1, 0, 1, 2], undecoded=[1]), "pts_seconds", None, row=1)
    rows = with_column(rows, "track_id", pa.array([0, None, 0, 0, 1], pa.int32()))
    assert sum(map(len, read(write(tmp_path / "e.parquet", rows)))) == 4  # of 5; what has no time is shown nowhere


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.drop_columns(["expression"]), "no column expression, expected all"),
        (lambda rows: rows.drop_columns(["x"]), "no column x, expected all"),
        (lambda rows: rows.drop_columns(["video"]), "no column video, expected all"),
        (
            lambda rows: with_column(rows, "expression", pa.array(["a"] * 4)),
            "column expression: found string, expected",
        ),
        (
            lambda rows: rows.set_column(14, "expression", face_rows("a.mp4", [1] * 4, code_dim=4)["expression"]),
            r"\[4\], ",
        ),
        (lambda rows: rows.slice(0, 0), "found no rows"),
        (lambda rows: with_value(rows, "expression", [NAN] * CODE_DIM), "row 2: found a code that is not finite"),
        (lambda rows: with_value(rows, "expression", None), "row 2: found a face without a code"),
        (lambda rows: with_value(rows, "w", NAN), "row 2: found a box that is not finite"),
        (lambda rows: with_value(rows, "y", None), "row 2: found a box that is not finite"),
        (lambda rows: with_value(rows, "h", -5.0), "row 2: found a box without width or height"),
        (lambda rows: with_value(rows, "score", NAN), "row 2: found a score that is not finite"),
        (lambda rows: with_value(rows, "track_id", None), "row 2: found a face without a track"),
        (lambda rows: with_value(rows, "pts_seconds", NAN, row=0), "row 0: found a time that is not finite"),
        (lambda rows: with_value(rows, "frame_index", None), "row 2: found no number of the frame"),
        (lambda rows: with_value(rows, "video", "b.mp4"), "row 2: found another video's row among its own"),
    ],
)
def test_a_table_that_does_not_tell_of_faces_is_one_line(
    tmp_path: Path, spoil: Callable[[pa.Table], pa.Table], message: str
) -> None:
    rows = face_rows("a.mp4", [1] * 4)
    rows = with_column(rows, "track_id", pa.array([0] * 4, pa.int32()))
    path = write(tmp_path / "e.parquet", spoil(rows))
    with pytest.raises(InputError, match=rf"^{path}.*{message}") as raised:
        read(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("metadata", [{}, {"fcvideo": "{"}, {"fcvideo": "[1]"}, {"fcvideo": "{}"}])
def test_a_table_of_another_origin_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    pq.write_table(face_rows("a.mp4", [1]).replace_schema_metadata(metadata), tmp_path / "e.parquet")
    with pytest.raises(InputError, match=r"e.parquet: (found a table of other origin|not a table that can be read)"):
        read(tmp_path / "e.parquet")


def test_a_damaged_table_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", face_rows("a.mp4", [1] * 4))
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a table that can be read"):
        read(path)
