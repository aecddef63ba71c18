from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fcvideo.errors import InputError, SettingsError
from fcvideo.evaluation.embedded_sets import read_embedded_faces, split_embedded
from tests.evaluation.datasets import write_csv
from tests.tables.rows import CODE_DIM, face_rows


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """a.mp4: two faces, none, one, in tracks 0 and 1; b.mp4: one face in each of two frames, track 0."""
    rows = pa.concat_tables([face_rows("a.mp4", [2, 0, 1]), face_rows("b.mp4", [1, 1])])
    tracks = pa.array([0, 1, None, 1, 0, 0], pa.int32())
    rows = rows.set_column(rows.schema.get_field_index("track_id"), "track_id", tracks)
    path = tmp_path / "embeddings.parquet"
    pq.write_table(rows, path, row_group_size=2)
    return path


def test_labels_of_videos_are_those_of_the_largest_faces(table: Path, tmp_path: Path) -> None:
    labels = write_csv(tmp_path / "l.csv", ("video", "label"), [("a.mp4", "happy"), ("b.mp4", "sad"), ("c.mp4", "sad")])
    found = read_embedded_faces(table, labels, {"label": "text"}, ("expression",))
    assert found.labels["label"] == ["happy", "happy", "sad", "sad"]
    assert found.codes["expression"].shape == (4, CODE_DIM)
    np.testing.assert_allclose(found.codes["expression"], np.tile(np.cos(np.arange(CODE_DIM)), (4, 1)), atol=1e-6)
    assert found.num_unmatched == 1
    train, test = split_embedded(found, labels)
    assert sorted(train.tolist() + test.tolist()) == [0, 1, 2, 3]
    assert {found.videos[i] for i in train}.isdisjoint({found.videos[i] for i in test})


def test_labels_of_tracks(table: Path, tmp_path: Path) -> None:
    rows = [("a.mp4", 0, "p"), ("a.mp4", 1, "q"), ("b.mp4", 0, "p")]
    labels = write_csv(tmp_path / "l.csv", ("video", "track_id", "person"), rows)
    found = read_embedded_faces(table, labels, {"person": "text"}, ("identity",))
    assert found.labels["person"] == ["p", "q", "q", "p", "p"]
    assert found.clips.tolist() == ["a.mp4#0", "a.mp4#1", "a.mp4#1", "b.mp4#0", "b.mp4#0"]


@pytest.mark.parametrize(("key", "value"), [("frame_index", 1), ("pts_seconds", 0.0404)])
def test_labels_of_frames(table: Path, tmp_path: Path, key: str, value: float) -> None:
    rows = [("b.mp4", value, 1.5, 2.5, 3.5), ("b.mp4", 0, 0, "", 0)]
    labels = write_csv(tmp_path / "l.csv", ("video", key, "yaw_deg", "pitch_deg", "roll_deg"), rows)
    angles = ("yaw_deg", "pitch_deg", "roll_deg")
    found = read_embedded_faces(table, labels, dict.fromkeys(angles, "number"), ("expression", "identity"))
    assert [found.labels[name].tolist() for name in angles] == [[1.5], [2.5], [3.5]]
    assert found.num_unmatched == 1


def test_labels_may_name_the_splits(table: Path, tmp_path: Path) -> None:
    rows = [("a.mp4", 0, "x", "train"), ("a.mp4", 2, "y", "test"), ("b.mp4", 0, "x", "train")]
    labels = write_csv(tmp_path / "l.csv", ("video", "frame_index", "label", "split"), rows)
    found = read_embedded_faces(table, labels, {"label": "text"}, ("expression",))
    train, test = split_embedded(found, labels)
    assert (train.tolist(), test.tolist()) == ([0, 2], [1])


def test_what_does_not_fit_is_named(table: Path, tmp_path: Path) -> None:
    labels = write_csv(tmp_path / "l.csv", ("video", "label"), [("videos/a.mp4", "happy")])
    with pytest.raises(InputError, match=r"no label fits a face .*found 'videos/a.mp4' there, 'a.mp4' here"):
        read_embedded_faces(table, labels, {"label": "text"}, ("expression",))
    with pytest.raises(SettingsError, match="found 'hog', which no embeddings table holds"):
        read_embedded_faces(table, labels, {"label": "text"}, ("expression", "hog"))
    twice = write_csv(tmp_path / "l.csv", ("video", "label"), [("a.mp4", "x"), ("a.mp4", "y")])
    with pytest.raises(InputError, match=r"rows 0 and 1 label the same face \(a\.mp4\)"):
        read_embedded_faces(table, twice, {"label": "text"}, ("expression",))
    alone = write_csv(tmp_path / "l.csv", ("video", "label"), [("a.mp4", "x")])
    found = read_embedded_faces(table, alone, {"label": "text"}, ("expression",))
    with pytest.raises(InputError, match="one video only"):
        split_embedded(found, alone)
