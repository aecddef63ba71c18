"""Names of outputs, and what is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcvideo.assembly.orders import MotionSource, altered, read_pairs, reenacted, seen_sources
from fcvideo.errors import InputError, OutputError
from fcvideo.video.inputs import Source


def sources(*paths: str) -> list[MotionSource]:
    return [MotionSource(Source(path, path)) for path in paths]


def test_one_result_is_named_after_both():
    place, orders = reenacted([(sources("/v/a.mov")[0], Source("/f/b.jpg", "b.jpg"))], None)
    assert [order.path for order in orders] == [Path("a-b.mp4")]
    assert not place.is_folder
    assert place.parts_folder == Path("a-b.mp4.parts")
    _, orders = reenacted([(sources("/v/a.JPG")[0], Source("/f/b.jpg", "b.jpg"))], None)
    assert [order.path for order in orders] == [Path("a-b.png")]


def test_several_results_go_into_a_folder_under_names_of_their_own():
    target = Source("/f/b.jpg", "b.jpg")
    pairs = [(source, target) for source in sources("/v/a.mp4", "/w/A.mkv", "https://x.org/c.mp4?key=1")]
    place, orders = reenacted(pairs, None)
    assert [str(order.path) for order in orders] == [
        "reenacted/a.mp4-b.jpg.mp4",
        "reenacted/A.mkv-b.jpg.mp4",
        "reenacted/c-b.mp4",
    ]
    assert place.record_path == Path("reenacted/renderings.json")
    with pytest.raises(OutputError, match="expected a folder"):
        reenacted(pairs, "one.mp4")


def test_a_folders_shape_is_kept(tmp_path: Path):
    (tmp_path / "in" / "x").mkdir(parents=True)
    for name in ("a.mkv", "b.webp", "c.bmp"):
        (tmp_path / "in" / "x" / name).touch()
    found = seen_sources([str(tmp_path / "in")], "out/", None)
    _, orders = altered(found, None, [str(tmp_path / "in")], "out/")
    assert [str(order.path) for order in orders] == ["out/x/a.mp4", "out/x/b.webp", "out/x/c.png"]


@pytest.mark.parametrize("out", ["a.avi", "b.png"])
def test_a_video_becomes_mp4_alone(out: str):
    with pytest.raises(OutputError, match=r"expected \.mp4"):
        altered(sources("/v/a.mp4"), None, ["/v/a.mp4"], out)


def test_results_in_the_way_of_inputs_are_refused(tmp_path: Path):
    video = tmp_path / "a.mp4"
    video.touch()
    with pytest.raises(OutputError, match=r"a\.mp4: is an input"):
        altered(sources(str(video)), None, [str(video)], f"{tmp_path}/")


def test_earlier_results_are_no_inputs(tmp_path: Path):
    for name in ("a.mp4", "out/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = seen_sources([str(tmp_path)], f"{tmp_path}/out", None)
    assert [source.source.name for source in found] == ["a.mp4"]
    assert len(seen_sources([str(tmp_path / "out")], str(tmp_path), None)) == 1
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(InputError, match="all inputs lie in the folder for the results"):
        seen_sources([str(tmp_path)], f"{tmp_path}/out", None)


def test_pairs_name_files_by_name_or_path(tmp_path: Path):
    table = tmp_path / "pairs.csv"
    found, targets = sources("/v/a.mp4", "/w/a.mp4"), [Source("/f/b.jpg", "b.jpg")]
    table.write_text("target,source\nb.jpg,/w/a.mp4\nb.jpg,/w/a.mp4\n")
    assert [(s.source.path, t.path) for s, t in read_pairs(table, found, targets)] == [("/w/a.mp4", "/f/b.jpg")]
    table.write_text("source,target\na.mp4,b.jpg\n")
    with pytest.raises(InputError, match=r"row 1: found 'a.mp4', expected its path: 2 files of --source"):
        read_pairs(table, found, targets)
    table.write_text("source\na.mp4\n")
    with pytest.raises(InputError, match="no column target"):
        read_pairs(table, found, targets)


def test_a_linked_file_keeps_the_name_of_the_link(tmp_path: Path):
    folder, blobs = tmp_path / "in", tmp_path / "in" / ".store"
    blobs.mkdir(parents=True)
    for number, name in enumerate(("a.mp4", "deep/b.mov")):
        (blobs / f"5e1f{number}").write_bytes(b"\x1aE\xdf\xa3")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(blobs / f"5e1f{number}")
    found = seen_sources([str(folder)], str(tmp_path / "out/"), None)
    _, orders = altered(found, None, [str(folder)], f"{tmp_path}/out/")
    assert [order.name for order in orders] == ["a.mp4", "deep/b.mp4"]
    _, orders = altered(seen_sources([str(folder / "a.mp4")], "out/", None), None, [str(folder / "a.mp4")], "out/")
    assert [order.name for order in orders] == ["a.mp4"]
