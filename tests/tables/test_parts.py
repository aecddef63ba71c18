from __future__ import annotations

from pathlib import Path

import pytest

from fcvideo.errors import OutputError
from fcvideo.tables.parts import Part, Parts, inputs_key, read_record, video_key
from tests.tables.rows import face_rows

IDENTITY = {"fps": None, "model_hash": "abc"}
KEY = video_key("a.mp4")
INPUTS = inputs_key(["a.mp4"])


def claimed(folder: Path, identity: dict = IDENTITY, *, overwrite: bool = False) -> Parts:
    parts = Parts(folder)
    parts.claim(identity, INPUTS, overwrite=overwrite)
    return parts


def write(folder: Path, segment: int, chunk: int = 0, *, is_last: bool = True) -> Path:
    (folder / KEY).mkdir(exist_ok=True)
    part = Part(folder, KEY, segment, chunk, is_last)
    part.write(face_rows("a.mp4", [1, 1]), {"status": "ok"})
    return part.path


def test_a_part_keeps_its_record(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    assert read_record(write(parts.folder, 0)) == {"status": "ok"}


def test_a_segment_is_finished_with_its_last_chunk(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    first, second = write(parts.folder, 4, 0, is_last=False), None
    assert parts.finished(KEY) == {}
    second = write(parts.folder, 4, 1)
    assert parts.finished(KEY) == {4: [first, second]}


def test_a_missing_chunk_leaves_a_segment_unfinished(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    write(parts.folder, 0, 1)
    assert parts.finished(KEY) == {}


def test_a_crash_record_replaces_the_chunks_before_it(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    write(parts.folder, 0, 0, is_last=False)
    write(parts.folder, 0, 1, is_last=False)
    record = write(parts.folder, 0, 0)
    assert parts.finished(KEY) == {0: [record]}


def test_an_unfinished_file_is_no_part(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    write(parts.folder, 0)
    (parts.folder / KEY / ".00001-000-end.parquet.12345678.unfinished").write_bytes(b"half")
    assert list(parts.finished(KEY)) == [0]


def test_another_identity_is_refused_with_what_differs(tmp_path: Path):
    claimed(tmp_path / "parts").release()
    with pytest.raises(OutputError, match=r"fps None, not 5\.0.*--overwrite"):
        Parts(tmp_path / "parts").claim(IDENTITY | {"fps": 5.0}, INPUTS, overwrite=False)


def test_overwriting_starts_anew(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    write(parts.folder, 0)
    parts.release()
    other = claimed(tmp_path / "parts", IDENTITY | {"fps": 5.0}, overwrite=True)
    assert other.finished(KEY) == {}
    assert other.run() == {"identity": IDENTITY | {"fps": 5.0}, "replaces": INPUTS}


def test_going_on_keeps_what_is_there(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    write(parts.folder, 0)
    parts.release()
    assert list(claimed(tmp_path / "parts").finished(KEY)) == [0]


def test_two_processes_cannot_work_in_one_place(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    with pytest.raises(OutputError, match="another fcvideo"):
        Parts(tmp_path / "parts").claim(IDENTITY, INPUTS, overwrite=False)
    parts.release()
    claimed(tmp_path / "parts")


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="choose another"):
        Parts(tmp_path / "parts").claim(IDENTITY, INPUTS, overwrite=True)


def test_removing_keeps_the_videos_of_another_call(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    write(parts.folder, 0)
    (parts.folder / "other").mkdir()
    parts.remove([KEY])
    assert [p.name for p in parts.folder.iterdir() if p.is_dir()] == ["other"]


def test_removing_the_last_video_removes_the_folder(tmp_path: Path):
    parts = claimed(tmp_path / "parts")
    write(parts.folder, 0)
    parts.remove([KEY])
    assert list(tmp_path.iterdir()) == []
