"""Names in a folder of results: who gets which, and that nobody loses one that was given."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fcvideo.assembly.names import Owner, owner_key, read_owners
from fcvideo.assembly.orders import MotionSource, Order, altered, reenacted, seen_sources
from fcvideo.errors import OutputError
from fcvideo.video.inputs import Source
from fcvideo.video.probe import fingerprint


def orders_of(folder: Path, out: Path) -> list[Order]:
    given = [str(folder)]
    return altered(seen_sources(given, str(out), None), None, given, f"{out}/")[1]


def names_of(folder: Path, out: Path) -> dict[str, str]:
    """Input -> output."""
    return {order.source.source.name: order.name for order in orders_of(folder, out)}


def record(out: Path, orders: list[Order]) -> None:
    """As a run leaves it."""
    rows = {}
    for order in orders:
        ids = {"source": fingerprint(order.source.source), "target": None}
        rows[order.name] = {"output": order.name, "owner": order.owner, "ids": ids, "status": "ok"}
    out.mkdir(exist_ok=True)
    (out / "renderings.json").write_text(json.dumps({"identity": {}, "outputs": rows}))


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_names_that_clash_keep_their_suffix(tmp_path: Path):
    folder = make(tmp_path / "in", "clip.mov", "clip.avi", "x/clip.mov", "y.mkv", "Y.mp4", "z.bmp", "z.png")
    assert names_of(folder, tmp_path / "out") == {
        "clip.mov": "clip.mov.mp4",
        "clip.avi": "clip.avi.mp4",
        "x/clip.mov": "x/clip.mp4",
        "y.mkv": "y.mkv.mp4",  # where letters' case makes no name of its own
        "Y.mp4": "Y.mp4",
        "z.bmp": "z.bmp.png",
        "z.png": "z.png",
    }


def test_a_name_stays_with_its_owner_when_files_are_added(tmp_path: Path):
    folder, out = make(tmp_path / "in", "clip.mov", "z.bmp"), tmp_path / "out"
    first = orders_of(folder, out)
    record(out, first)
    make(folder, "clip.avi", "clip.mp4", "z.png", "a.mkv")
    assert names_of(folder, out) == {
        "clip.mov": "clip.mp4",
        "clip.avi": "clip.avi.mp4",
        "clip.mp4": "clip-2.mp4",
        "z.bmp": "z.png",
        "z.png": "z-2.png",
        "a.mkv": "a.mp4",
    }
    make(folder, "clip.mov").joinpath("clip.mov").write_text("another content")
    assert names_of(folder, out)["clip.mov"] == "clip.mp4"
    (folder / "clip.mov").unlink()
    assert names_of(folder, out)["clip.avi"] == "clip.avi.mp4"


def test_a_name_of_a_run_that_was_killed_is_given(tmp_path: Path):
    folder, out = make(tmp_path / "in", "clip.mov"), tmp_path / "out"
    (order,) = orders_of(folder, out)
    parts = out / ".parts" / "0123"
    parts.mkdir(parents=True)
    (parts / "owner.json").write_text(json.dumps({"output": order.name, "owner": order.owner, "ids": {}}))
    make(folder, "clip.avi")
    assert names_of(folder, out) == {"clip.mov": "clip.mp4", "clip.avi": "clip.avi.mp4"}


def test_a_folder_that_was_moved_keeps_its_names(tmp_path: Path):
    folder, out = make(tmp_path / "in", "clip.mov", "b.mkv"), tmp_path / "out"
    record(out, orders_of(folder, out))
    moved = folder.rename(tmp_path / "moved")
    make(moved, "clip.avi")
    assert names_of(moved, out) == {"clip.mov": "clip.mp4", "b.mkv": "b.mp4", "clip.avi": "clip.avi.mp4"}


def test_another_file_of_the_same_name_takes_nothing_over(tmp_path: Path):
    out = tmp_path / "out"
    make(tmp_path, "v/a.mp4", "w/a.mp4")
    record(out, orders_of(tmp_path / "v", out))
    assert names_of(tmp_path / "w", out) == {"a.mp4": "a-2.mp4"}


def test_pairs_that_are_called_alike_get_names_of_their_own():
    sources = map(_motion_source, ("/v/a.mp4", "/w/a.mp4", "/w/a.mov"))
    target = Source("/f/b.jpg", "b.jpg")
    _, orders = reenacted([(one, target) for one in sources], "out/")
    assert [order.name for order in orders] == ["a.mp4-b.jpg.mp4", "a.mp4-b.jpg-2.mp4", "a.mov-b.jpg.mp4"]


def _motion_source(path: str) -> MotionSource:
    return MotionSource(Source(path, path))


def test_ten_thousand_equal_names_take_no_second():
    pairs = [(_motion_source(f"/{number}/a.mp4"), Source("/f/b.jpg", "b.jpg")) for number in range(10_000)]
    started = time.process_time()
    _, orders = reenacted(pairs, "out/")
    assert len({order.name for order in orders}) == 10_000
    assert time.process_time() - started < 1.5  # quadratic: 160 s


def test_an_unreadable_record_is_left_to_who_needs_it(tmp_path: Path):
    for text in ("", "[]", '{"outputs": [1]}', '{"outputs": {"a": 3}}'):
        (tmp_path / "renderings.json").write_text(text)
        assert read_owners(tmp_path / "renderings.json", tmp_path / ".parts") == {}
    row = {"output": "A.mp4", "owner": owner_key("/v/a.mp4", None, None), "ids": None}
    (tmp_path / "renderings.json").write_text(json.dumps({"outputs": {"A.mp4": row}}))
    assert read_owners(tmp_path / "renderings.json", tmp_path / ".parts") == {
        "a.mp4": Owner(owner_key("/v/a.mp4", None, None), "A.mp4", None)
    }


def test_names_of_256_bytes_are_refused_at_once(tmp_path: Path):
    with pytest.raises(OutputError, match="found a name of 256 bytes, expected at most 255"):
        altered([_motion_source("/v/a.mp4")], None, ["/v/a.mp4"], str(tmp_path / f"{'é' * 126}.mp4"))
