"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcvideo.atomic import beside, clear_leftovers, remove_folder, written_atomically
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


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "a" * 251 + ".mp4", "x"])
def test_a_name_of_any_length_can_be_written_and_cleared(tmp_path: Path, name: str):
    path, other = tmp_path / name, tmp_path / f"{name[:-1]}b"
    with written_atomically(path) as unfinished, written_atomically(other) as unfinished_too:
        assert len(unfinished.name.encode()) <= max(len(name.encode()), 130)
        unfinished.write_text("new")
        unfinished_too.write_text("other")
        clear_leftovers(tmp_path, other.name)  # as if that one had been killed
        assert unfinished.exists()
        assert not unfinished_too.exists()
        unfinished_too.write_text("other")
    assert path.read_text() == "new"
    other.unlink()
    path.unlink()
    path.mkdir()
    remove_folder(path)
    assert list(tmp_path.iterdir()) == []


def test_what_lies_beside_a_file_of_a_long_name_has_a_name_of_its_own(tmp_path: Path):
    assert beside(tmp_path / "a.mp4", ".", ".json") == tmp_path / ".a.mp4.json"
    places = {beside(tmp_path / f"{'a' * 250}{end}", "", ".parts") for end in ("b", "c", "d.mp4")}
    assert len(places) == 3
    for place in places:
        place.mkdir()
