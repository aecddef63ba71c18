from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fcvideo.tables.compact import write_table
from fcvideo.tables.schema import embeddings_schema, metadata_of, videos_schema, videos_table
from tests.tables.rows import CODE_DIM, face_rows


def test_every_frame_has_a_row():
    table = face_rows("a.mp4", [1, 0, 2, 0], undecoded=[3])
    assert table["frame_index"].to_pylist() == [0, 1, 2, 2, 3]
    assert table["status"].to_pylist() == ["ok", "no_face", "ok", "ok", "decode_error"]
    assert table["face_index"].to_pylist() == [0, None, 0, 1, None]
    assert table["x"].to_pylist() == [0, None, 0, 100, None]
    assert table["identity"].is_null().to_pylist() == [False, True, False, False, True]


def test_columns_are_the_designed_ones():
    scalars = "video video_id frame_index pts_seconds status face_index track_id x y w h score"
    assert " ".join(embeddings_schema().names) == f"{scalars} landmarks crop expression identity cycle_error"
    assert embeddings_schema().field("expression").type == pa.list_(pa.float32(), 256)


def test_a_table_without_a_frame_keeps_its_types():
    table = face_rows("a.mp4", [])
    assert table.num_rows == 0
    assert table.schema.equals(embeddings_schema(CODE_DIM))


def test_no_time_is_null_and_not_nan():
    table = face_rows("a.mp4", [0])
    assert table["pts_seconds"].null_count == 0


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "embeddings.parquet"
    rows = [face_rows("a.mp4", [1, 0, 2]), face_rows("b.mp4", [0, 0]), face_rows("c.mp4", [3])]
    write_table(path, embeddings_schema(CODE_DIM), rows, {"model": "m"})
    return path


EXPECTED = np.cos(2 * np.arange(CODE_DIM)).astype(np.float32)  # of the second face of a frame


def test_pyarrow_reads_vectors_and_metadata(file: Path):
    table = pq.read_table(file)
    np.testing.assert_array_equal(table["expression"][3].as_py(), EXPECTED)
    assert metadata_of(table.schema) == {"model": "m"}


def test_pandas_reads_vectors(file: Path):
    table = pandas.read_parquet(file)
    faces = table[table.status == "ok"]
    assert np.stack(faces.identity).shape == (6, CODE_DIM)
    np.testing.assert_array_equal(table.expression[3], EXPECTED)
    assert table.expression[1] is None
    assert len(table) == 9


def test_polars_reads_vectors(file: Path):
    table = polars.read_parquet(file)
    faces = table.filter(polars.col("status") == "ok")
    assert faces["identity"].to_numpy().shape == (6, CODE_DIM)
    np.testing.assert_array_equal(table["expression"][3].to_numpy(), EXPECTED)
    assert table["expression"].null_count() == 3


def test_duckdb_reads_vectors(file: Path):
    rows = duckdb.sql(f"select expression, landmarks from '{file}' where face_index = 1 order by video").fetchall()
    assert len(rows) == 2
    np.testing.assert_array_equal(np.array(rows[0][0], np.float32), EXPECTED)
    assert list(rows[0][1]) == [1.0] * 10
    codes = f"identity::float[{CODE_DIM}]"
    cosine = duckdb.sql(f"select array_cosine_similarity({codes}, {codes}) from '{file}' where status = 'ok'")
    assert cosine.fetchall() == [(pytest.approx(1),)] * 6


def test_the_videos_table_takes_a_video_of_which_nothing_is_known():
    counts = dict.fromkeys(("num_frames_decoded", "num_frames_sampled", "num_faces", "num_tracks"), 0)
    table = videos_table([{"video": "a", "status": "not_media", "error": "no", "seconds_spent": 0.0, **counts}])
    assert table.schema.equals(videos_schema())
    assert table["width"].to_pylist() == [None]
