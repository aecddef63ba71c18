from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fcvideo.errors import InputError
from fcvideo.tables.columns import column_names, read_columns


def test_text_of_csv_keeps_its_zeros_and_loses_its_blanks(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeffname, label\n0001, 3 \n0002,b\n", encoding="utf-8")
    assert column_names(path) == ["name", "label"]
    assert read_columns(path, {"name": "text", "label": "text"}) == {"name": ["0001", "0002"], "label": ["3", "b"]}


def test_numbers_of_csv_may_be_missing_or_spelled(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('x\n1.5\n""\nnan\nTrue\nfalse\n')
    np.testing.assert_array_equal(read_columns(path, {"x": "number"})["x"], [1.5, np.nan, np.nan, 1, 0])


def test_a_word_among_numbers_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x\n1\ntwo\n")
    with pytest.raises(InputError, match=r"t\.csv: column x, row 1: found 'two', expected a number"):
        read_columns(path, {"x": "number"})


def test_whole_labels_with_gaps_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"label": pa.array([3.0, None, 1.0])}), path)
    assert read_columns(path, {"label": "text"})["label"] == ["3", None, "1"]


def test_pictures_may_lie_in_structs(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [{"bytes": b"a", "path": "a.jpg"}, {"bytes": b"b", "path": None}]}), path)
    assert read_columns(path, {"image": "bytes"})["image"] == [b"a", b"b"]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2)])
def test_vectors_without_value_are_nan(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"code": pa.array([[1.0, 2.0], None, [3.0, 4.0]], kind)}), path)
    found = read_columns(path, {"code": "vector"})["code"]
    np.testing.assert_array_equal(found, [[1, 2], [np.nan, np.nan], [3, 4]])


def test_chosen_rows_come_from_all_row_groups_and_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": list(range(10))}), tmp_path / "a.parquet", row_group_size=3)
    pq.write_table(pa.table({"x": list(range(10, 14))}), tmp_path / "b.parquet")
    found = read_columns(tmp_path, {"x": "number"}, rows=np.array([0, 4, 9, 10, 13]))
    assert found["x"].tolist() == [0, 4, 9, 10, 13]


def test_a_missing_column_and_a_wrong_kind_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"jpeg": ["text"]}), path)
    with pytest.raises(InputError, match=r"no column label; found jpeg; expected label"):
        read_columns(path, {"label": "text"})
    with pytest.raises(InputError, match=r"column jpeg: found string, expected bytes"):
        read_columns(path, {"jpeg": "bytes"})


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 cut off")
    with pytest.raises(InputError, match=r"t\.parquet: not a Parquet file"):
        read_columns(path, {"x": "number"})
    with pytest.raises(InputError, match="no such file"):
        read_columns(tmp_path / "other.parquet", {"x": "number"})
