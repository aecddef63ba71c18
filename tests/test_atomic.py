"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcvideo.atomic import clear_leftovers, written_atomically
from fcvideo.errors import OutputError


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with written_atomically(path) as unfinished:
            unfinished.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"


def test_an_unwritable_place_is_one_line(tmp_path: Path):
    with pytest.raises(OutputError, match="cannot be written"), written_atomically(tmp_path / "no" / "a") as unfinished:
        unfinished.write_text("")


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path):
    (tmp_path / ".e[1].parquet.0a.unfinished").write_text("")
    (tmp_path / ".e[1].parquet.0b.removed").mkdir()
    (tmp_path / ".other.0a.unfinished").write_text("")
    clear_leftovers(tmp_path, "e[1].parquet")
    assert [p.name for p in tmp_path.iterdir()] == [".other.0a.unfinished"]
