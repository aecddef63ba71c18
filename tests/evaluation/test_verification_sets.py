from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fcvideo.errors import InputError
from fcvideo.evaluation.pictures import PairSet
from fcvideo.evaluation.verification_sets import draw_pairs, read_pair_set
from tests.evaluation.datasets import jpeg, value_of, write_csv, write_jpeg, write_parquet


def seen(found: PairSet) -> list[tuple[int, int, bool]]:
    """The colours of each pair, and whether it is one person's."""
    rows = zip(found.first, found.second, found.same, strict=True)
    return [(value_of(found.pictures, a), value_of(found.pictures, b), bool(same)) for a, b, same in rows]


@pytest.fixture
def lfw(tmp_path: Path) -> Path:
    for person, values in {"Ann_A": (10, 20, 30), "Bob_B": (40, 50)}.items():
        for number, value in enumerate(values, 1):
            write_jpeg(tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg", value)
    return tmp_path / "lfw"


@pytest.mark.parametrize("header", ["10\t300\n", "2\n", ""])
def test_lfw_pairs(lfw: Path, tmp_path: Path, header: str) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(header + "Ann_A\t1\t3\nBob_B\t1\t2\nAnn_A\t2\tBob_B\t2\n")
    found = read_pair_set(lfw, pairs)
    assert seen(found) == [(10, 30, True), (40, 50, True), (20, 50, False)]
    assert not found.pictures.are_crops


def test_lfw_pairs_as_csv(lfw: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("name,imagenum1,imagenum2,\nAnn_A,1,3,\nAnn_A,2,Bob_B,2\n")
    assert seen(read_pair_set(lfw, pairs)) == [(10, 30, True), (20, 50, False)]


@pytest.mark.parametrize("naming", ["{0}/{0}_{1:04d}.jpg", "{0}_{1:04d}", "{0}_{1:04d}.png", "lfw/{0}/{0}_{1:04d}.jpg"])
def test_lfw_pairs_of_a_table_of_crops(tmp_path: Path, naming: str) -> None:
    names = [naming.format("Ann_A", 1), naming.format("Ann_A", 2), naming.format("Bob_B", 1)]
    table = write_parquet(tmp_path / "lfw.parquet", {"name": names, "jpeg": [jpeg(10), jpeg(20), jpeg(30)]})
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("1\t1\nAnn_A\t1\t2\nAnn_A\t1\tBob_B\t1\n")
    found = read_pair_set(table, pairs)
    assert seen(found) == [(10, 20, True), (10, 30, False)]
    assert found.pictures.are_crops


def test_cplfw_pairs(tmp_path: Path) -> None:
    for name, value in (("Ann_A_1", 10), ("Ann_A_2", 20), ("Bob_B_1", 30)):
        write_jpeg(tmp_path / "images" / f"{name}.jpg", value)
    pairs = tmp_path / "pairs_CPLFW.txt"
    pairs.write_text("Ann_A_1.jpg 1\nAnn_A_2.jpg 1\nAnn_A_2.jpg 0\nBob_B_1.jpg 0\n")
    assert seen(read_pair_set(tmp_path / "images", pairs)) == [(10, 20, True), (20, 30, False)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_pairs_has_ten_folds_by_order(tmp_path: Path, kind: str) -> None:
    images = write_parquet(tmp_path / "a.parquet", {"name": [7, 8, 9], "jpeg": [jpeg(70), jpeg(80), jpeg(90)]})
    rows = [(7, 8, i % 2) for i in range(18)] + [(9, 7, 1), (8, 9, 0)]
    if kind == "csv":
        pairs = write_csv(tmp_path / "p.csv", ("a", "b", "same"), rows)
    else:
        a, b, same = zip(*rows, strict=True)
        pairs = write_parquet(tmp_path / "p.parquet", {"a": a, "b": b, "same": [bool(s) for s in same]})
    found = read_pair_set(images, pairs)
    assert found.folds.tolist() == [fold for fold in range(10) for _ in range(2)]
    assert seen(found)[:2] == [(70, 80, False), (70, 80, True)]
    assert seen(found)[-2:] == [(90, 70, True), (80, 90, False)]


def test_pictures_that_no_pair_needs_are_left_out(tmp_path: Path) -> None:
    images = write_parquet(tmp_path / "a.parquet", {"name": list("abcd"), "jpeg": [jpeg(v) for v in (10, 20, 30, 40)]})
    pairs = write_csv(tmp_path / "p.csv", ("a", "b", "same"), [("d", "b", 1), ("b", "b", 0)])
    found = read_pair_set(images, pairs)
    assert found.pictures.names == ["b", "d"]


def test_pairs_drawn_among_people_cross_clips(tmp_path: Path) -> None:
    persons = ["p", "p", "p", "q", "q", "r", None]
    clips = ["1", "1", "2", "1", "2", "1", "1"]
    columns = {"source": ["s"] * 7, "person": persons, "clip": clips, "jpeg": [jpeg(10 * i) for i in range(7)]}
    path = write_parquet(tmp_path / "people.parquet", columns)
    found = read_pair_set(path, None)
    pairs = {(a, b, same) for a, b, same in seen(found)}
    assert {(a, b) for a, b, same in pairs if same} == {(0, 20), (10, 20), (30, 40)}
    assert all(persons[a // 10] != persons[b // 10] for a, b, same in pairs if not same)
    assert 60 not in {value for a, b, _ in pairs for value in (a, b)}
    assert len(pairs) == len(found.same) == 6


def test_a_folder_per_person(lfw: Path) -> None:
    found = seen(read_pair_set(lfw, None))
    assert {(a < 40) == (b < 40) for a, b, same in found if same} == {True}
    assert sum(same for *_, same in found) == 4


def test_drawn_pairs_are_distinct_balanced_and_repeatable() -> None:
    persons: Sequence[str] = [str(i // 10) for i in range(300)]
    first, second, same, folds = draw_pairs(persons, limit=200)
    assert len({*zip(first.tolist(), second.tolist(), strict=True)}) == 400
    assert same.sum() == 200
    assert [int((same & (folds == fold)).sum()) for fold in range(10)] == [20] * 10
    assert [int((folds == fold).sum()) for fold in range(10)] == [40] * 10
    again = draw_pairs(persons, limit=200)
    np.testing.assert_array_equal(first, again[0])


def test_unknown_names_and_lines_are_named(lfw: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("Ann_A\t1\t3\nAnn_A\t1\tCyd_C\t1\n")
    with pytest.raises(InputError, match=r"pair 2 names 'Cyd_C/Cyd_C_0001', which .*lfw does not hold"):
        read_pair_set(lfw, pairs)
    pairs.write_text("Ann_A\t1\t3\nAnn_A\tone\n")
    with pytest.raises(InputError, match="pair 2: found 'Ann_A one'; expected LFW's"):
        read_pair_set(lfw, pairs)
    pairs.write_text("Ann_A\t1\t3\n")
    with pytest.raises(InputError, match="expected pairs of one person and pairs of two"):
        read_pair_set(lfw, pairs)
    table = write_csv(tmp_path / "p.csv", ("a", "b", "same"), [("x", "y", 2)])
    with pytest.raises(InputError, match="column same, row 0: found 2, expected 0 or 1"):
        read_pair_set(lfw, table)


def test_lonely_people_are_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"person": ["p", "q"], "jpeg": [jpeg(10), jpeg(20)]})
    with pytest.raises(InputError, match=r"a\.parquet: no pairs: .*or --pairs"):
        read_pair_set(path, None)
