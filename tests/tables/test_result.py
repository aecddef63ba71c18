from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fcvideo.errors import OutputError
from fcvideo.tables import compact
from fcvideo.tables.parts import Part, video_key
from fcvideo.tables.result import Result, VideoResult
from fcvideo.tables.schema import metadata_of
from tests.tables.rows import CODE_DIM, face_rows

IDENTITY = {"fps": None, "model_hash": "abc"}


def video(folder: Path, name: str, *segments: pa.Table) -> VideoResult:
    (folder / video_key(name)).mkdir(parents=True, exist_ok=True)
    paths = []
    for index, rows in enumerate(segments):
        part = Part(folder, video_key(name), index, 0, is_last=True)
        part.write(rows, {})
        paths.append(part.path)
    return VideoResult(row(name), paths)


def row(name: str) -> dict:
    counts = dict.fromkeys(("num_frames_decoded", "num_frames_sampled", "num_faces", "num_tracks"), 0)
    return {"video": name, "status": "ok", "error": None, "seconds_spent": 0.0, **counts}


def write(result: Result, videos: Sequence[VideoResult]) -> list[dict]:
    return result.write(videos, CODE_DIM, IDENTITY)


def test_parts_become_one_sorted_table_with_tracks_across_segments(tmp_path: Path):
    result = Result(str(tmp_path / "e.parquet"))
    b = video(tmp_path / "p", "b.mp4", face_rows("b.mp4", [2, 2]), face_rows("b.mp4", [2, 0, 2], first_frame=2))
    rows = write(result, [b, video(tmp_path / "p", "a.mp4", face_rows("a.mp4", [0, 1]))])
    table = pq.read_table(tmp_path / "e.parquet")
    assert table["video"].to_pylist() == ["a.mp4"] * 2 + ["b.mp4"] * 9
    assert table["frame_index"].to_pylist() == [0, 1, 0, 0, 1, 1, 2, 2, 3, 4, 4]
    assert table["track_id"].to_pylist() == [None, 0, 0, 1, 0, 1, 0, 1, None, 0, 1]
    assert [r["num_tracks"] for r in rows] == [1, 2]
    assert pq.read_table(tmp_path / "e.videos.parquet")["num_tracks"].to_pylist() == [1, 2]
    assert metadata_of(table.schema) == metadata_of(pq.read_schema(result.videos_path)) == IDENTITY


def test_row_groups_are_even_whatever_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compact, "ROWS_PER_GROUP", 10)
    parts = [face_rows("a.mp4", [1] * n, first_frame=f) for n, f in [(3, 0), (25, 3), (1, 28), (6, 29)]]
    write(Result(str(tmp_path / "e.parquet")), [video(tmp_path / "p", "a.mp4", *parts)])
    metadata = pq.ParquetFile(tmp_path / "e.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [10, 10, 10, 5]
    assert pq.read_table(tmp_path / "e.parquet")["frame_index"].to_pylist() == list(range(35))


def test_videos_of_an_earlier_result_are_carried_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compact, "ROWS_PER_GROUP", 7)
    names = ["a.mp4", "b.mp4", "d.mp4"]
    old = [video(tmp_path / "p", name, face_rows(name, [1, 0, 2] * 4)) for name in names]
    write(Result(str(tmp_path / "e.parquet")), old)
    before = pq.read_table(tmp_path / "e.parquet")
    new = video(tmp_path / "p", "c.mp4", face_rows("c.mp4", [1, 1]))
    result = Result(str(tmp_path / "e.parquet"))
    carried = [VideoResult(r, None) for r in result.videos().values()]
    rows = write(result, [new, *carried])
    after = pq.read_table(tmp_path / "e.parquet")
    assert after["video"].unique().to_pylist() == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert after.filter(pa.compute.not_equal(after["video"], "c.mp4")).equals(before)
    assert [r["num_tracks"] for r in rows] == [2, 2, 1, 2]


def test_a_name_that_ends_in_a_slash_gives_a_folder_with_a_file_per_video(tmp_path: Path):
    result = Result(f"{tmp_path}/out/")
    videos = [video(tmp_path / "p", name, face_rows(name, [1, 2])) for name in ("x/a.mp4", "y/a.mp4")]
    failed = VideoResult(row("z.mp4"), [])
    write(result, [*videos, failed])
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 2
    assert all(f.name.startswith("a-") for f in files)
    assert pq.read_table(tmp_path / "out").num_rows == 6
    assert pq.read_table(tmp_path / "out.videos.parquet").num_rows == 3
    write(Result(f"{tmp_path}/out/"), videos[:1])
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_result_of_the_same_identity_may_be_completed(tmp_path: Path):
    Result(str(tmp_path / "e.parquet")).check(IDENTITY, is_resumed=False)
    write(Result(str(tmp_path / "e.parquet")), [video(tmp_path / "p", "a.mp4", face_rows("a.mp4", [1]))])
    Result(str(tmp_path / "e.parquet")).check(IDENTITY, is_resumed=False)


def test_a_result_of_another_identity_is_refused(tmp_path: Path):
    write(Result(str(tmp_path / "e.parquet")), [video(tmp_path / "p", "a.mp4", face_rows("a.mp4", [1]))])
    with pytest.raises(OutputError, match="model_hash 'abc', not 'xyz'"):
        Result(str(tmp_path / "e.parquet")).check(IDENTITY | {"model_hash": "xyz"}, is_resumed=False)


def test_a_foreign_file_or_folder_is_refused(tmp_path: Path):
    (tmp_path / "e.parquet").write_text("mine")
    with pytest.raises(OutputError, match="not a table of fcvideo"):
        Result(str(tmp_path / "e.parquet")).check(IDENTITY, is_resumed=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    with pytest.raises(OutputError, match="choose another"):
        Result(f"{tmp_path}/photos/").check(IDENTITY, is_resumed=False)


def test_a_result_without_its_videos_table_is_an_unfinished_one(tmp_path: Path):
    result = Result(str(tmp_path / "e.parquet"))
    write(result, [video(tmp_path / "p", "a.mp4", face_rows("a.mp4", [1]))])
    result.videos_path.unlink()
    result.check(IDENTITY, is_resumed=True)
    with pytest.raises(OutputError, match="is missing"):
        result.check(IDENTITY, is_resumed=False)


def test_a_place_without_a_name_is_refused():
    with pytest.raises(OutputError, match="expected the name"):
        Result("./")


def test_a_place_whose_companions_have_no_names_is_refused():
    assert len(Result(f"{'a' * 240}.parquet").videos_path.name) == 255
    for out in (f"{'a' * 241}.parquet", f"{'a' * 241}/"):
        with pytest.raises(OutputError, match=r"256 bytes, expected at most 255, for \.videos\.parquet beside"):
            Result(out)
