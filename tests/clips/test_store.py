"""Clips on disk: what is written comes back, and every form of table reads as clips."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fcvideo.clips.shards import Clip, read_clips, read_metadata, write_clips, write_shard
from fcvideo.clips.store import ClipStore
from fcvideo.errors import InputError


def make_clip(number: int, num_frames: int = 4, person: str | None = None, frame_bytes: int = 10) -> Clip:
    frames = [f"{number}/{i}".encode().ljust(frame_bytes) for i in range(num_frames)]
    times = [i / 6 for i in range(num_frames)]
    boxes = np.full((num_frames, 4), number, dtype=np.float32)
    return Clip(f"v#{number}", "v.mp4", person, frames, times, list(range(num_frames)), boxes)


def write_crops(path: Path, row_group_size: int = 1024, **columns: list[object]) -> Path:
    num_rows = len(next(iter(columns.values())))
    pq.write_table(
        pa.table(columns | {"jpeg": [str(row).encode() for row in range(num_rows)]}),
        path,
        row_group_size=row_group_size,
    )
    return path


def test_clips_come_back_as_they_were_written(tmp_path: Path) -> None:
    clips = [make_clip(n, num_frames=3 + n) for n in range(5)]
    write_shard(tmp_path / "a.parquet", clips, {"fps": 6.0})
    for clip, found in zip(clips, read_clips(tmp_path / "a.parquet"), strict=True):
        np.testing.assert_array_equal(found.boxes, clip.boxes)
        assert {**vars(found), "boxes": None} == {**vars(clip), "boxes": None}
    assert read_metadata(tmp_path / "a.parquet") == {"fps": 6.0}


def test_a_store_over_many_shards_gives_every_clip_in_order(tmp_path: Path) -> None:
    clips = [make_clip(n, frame_bytes=1000) for n in range(200)]
    paths = write_clips(tmp_path, iter(clips), {"crop_side": 96}, shard_bytes=300_000)
    assert [path.name for path in paths] == ["clips-00000.parquet", "clips-00001.parquet", "clips-00002.parquet"]
    assert sorted(tmp_path.iterdir()) == paths  # nothing unfinished left behind
    store = ClipStore(tmp_path)
    assert (len(store), store.num_frames, store.metadata) == (200, 800, {"crop_side": 96})
    assert [store.frames(n) for n in range(200)] == [clip.frames for clip in clips]
    groups = [store.row_group(n) for n in range(200)]
    assert groups == sorted(groups)
    assert set(groups) == set(range(store.num_row_groups))


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_clips(tmp_path / name, (make_clip(n) for n in range(100)), {"fps": 6.0})
    first, second = ((tmp_path / name / "clips-00000.parquet").read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_failure_while_writing_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield make_clip(0)
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        write_shard(tmp_path / "a.parquet", broken(), {})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_positions_pick_frames(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [make_clip(n) for n in range(70)], {})
    assert ClipStore(tmp_path / "a.parquet").frames(67, [3, 1]) == [make_clip(67).frames[3], make_clip(67).frames[1]]
    crops = write_crops(tmp_path / "b.parquet", clip=["a", "a", "a"])
    assert ClipStore(crops).frames(0, [2, 0]) == [b"2", b"0"]


def test_ready_crops_scattered_over_row_groups_are_gathered_by_time(tmp_path: Path) -> None:
    path = write_crops(
        tmp_path / "crops.parquet",
        row_group_size=2,
        person=["p", "p", "q", "p", "p", "q"],
        clip=["a", "b", "a", "a", "b", "a"],
        frame=[9, 1, 0, 3, 0, 7],
    )
    store = ClipStore(path)
    assert [store.frames(n) for n in range(3)] == [[b"3", b"0"], [b"4", b"1"], [b"2", b"5"]]
    assert [store.person(n) for n in range(3)] == [0, 0, 1]
    assert [store.row_group(n) for n in range(3)] == [1, 2, 1]
    assert store.clip_lengths.tolist() == [2, 2, 2]


def test_the_same_name_in_another_source_is_another_person(tmp_path: Path) -> None:
    path = write_crops(tmp_path / "crops.parquet", source=["x", "x", "y"], person=["p"] * 3, clip=["a", "b", "a"])
    assert ClipStore(path).persons.tolist() == [0, 0, 1]


def test_crops_without_a_clip_column_are_stills(tmp_path: Path) -> None:
    store = ClipStore(write_crops(tmp_path / "stills.parquet", name=["a", "b", "c"]))
    assert (len(store), len(np.unique(store.persons))) == (3, 3)
    assert [store.frames(n) for n in range(3)] == [[b"0"], [b"1"], [b"2"]]


def test_unknown_persons_and_clips_are_their_own(tmp_path: Path) -> None:
    path = write_crops(
        tmp_path / "crops.parquet", person=["p", None, None, "p"], clip=["a", "b", "b", None], frame=[0, 0, 1, 0]
    )
    store = ClipStore(path)
    assert sorted(store.clip_lengths.tolist()) == [1, 1, 2]
    assert len(np.unique(store.persons)) == 2
    write_shard(tmp_path / "a.parquet", [make_clip(0), make_clip(1), make_clip(2, person="p")], {})
    assert ClipStore(tmp_path / "a.parquet").persons.tolist() == [0, 1, 2]


def test_paths_with_commas_are_joined_and_persons_kept_apart(tmp_path: Path) -> None:
    crops = write_crops(tmp_path / "crops.parquet", person=["p", "q"], clip=["a", "b"])
    write_shard(tmp_path / "a.parquet", [make_clip(0, person="p")], {})
    store = ClipStore(f"{crops}, {tmp_path / 'a.parquet'}")
    assert (len(store), store.num_row_groups) == (3, 2)
    assert store.persons.tolist() == [0, 1, 2]
    assert store.frames(2) == make_clip(0).frames


def test_a_store_travels_by_pickle_without_its_cache(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [make_clip(n, frame_bytes=100_000) for n in range(20)], {})
    store = ClipStore(tmp_path)
    frames = store.frames(5)
    travelled = pickle.dumps(store)
    assert len(travelled) < 10_000
    assert pickle.loads(travelled).frames(5) == frames


def test_the_cache_keeps_to_its_size(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [make_clip(n, frame_bytes=1000) for n in range(300)], {})
    store = ClipStore(tmp_path, cache_bytes=600_000)
    for n in range(300):
        store.frames(n)
    assert 0 < sum(array.nbytes for array in store._cache.values()) <= 600_000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "absent", "no such file or folder"),
        (lambda p: p, r"holds no \.parquet file"),
        (lambda p: _text_file(p), "not a Parquet file"),
        (lambda p: _other_table(p), r"found columns a int64, jpeg string; expected clips \(clip_id.*ready crops"),
        (lambda p: _unfinished(p), "prepare has not finished here"),
        (lambda p: _empty(p), "holds no clips"),
    ],
)
def test_what_is_not_a_store_is_named(tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClipStore(make(tmp_path))  # type: ignore[operator]


def _text_file(folder: Path) -> Path:
    (folder / "a.parquet").write_text("no")
    return folder


def _other_table(folder: Path) -> Path:
    pq.write_table(pa.table({"a": [1], "jpeg": ["no bytes"]}), folder / "a.parquet")
    return folder / "a.parquet"


def _unfinished(folder: Path) -> Path:
    (folder / ".parts").mkdir()
    return folder


def _empty(folder: Path) -> Path:
    write_shard(folder / "a.parquet", [], {})
    return folder


PACKS = {"clips-train": (1135, 8093, 321), "stills-train": (8000, 8000, 8000), "fer2013-train": (28709, 28709, 28709)}


def test_packs_of_faces_open(people: Path) -> None:
    counts = {path: PACKS[path.stem] for path in people.parent.glob("*.parquet") if path.stem in PACKS}
    for path, (clips, frames, persons) in counts.items() or [(people, (400, 400, 400))]:
        store = ClipStore(path)
        assert (len(store), store.num_frames, len(np.unique(store.persons))) == (clips, frames, persons)
        assert all(store.frames(clip)[0].startswith(b"\xff\xd8") for clip in (0, clips // 2, clips - 1))
