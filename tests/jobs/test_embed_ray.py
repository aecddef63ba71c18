"""Ray's engine gives the table of this process's, and survives the same videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fcvideo.errors import OutputError
from tests.jobs.embedding import assert_same_tables, run, videos_of
from tests.jobs.readers import FolderRemover, PoisonedReader

pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.mark.timeout(280)
def test_both_engines_give_the_same_table(tmp_path: Path, model: Path, make_video: Callable[..., Path], media: Path):
    poison = make_video(tmp_path / "poison.mp4", num_frames=10)
    half = make_video(tmp_path / "half.mp4", num_frames=60, rate=20, gop=20)
    inputs = [media / "pyfeat_single_face.mp4", poison, half, media / "hostile" / "text.mp4"]
    summaries = {
        engine: run(
            *inputs, out=tmp_path / f"{engine}.parquet", model=model, reader=PoisonedReader, engine=engine, workers=2
        )
        for engine in ("local", "ray")
    }
    local, ray = (pq.read_table(tmp_path / f"{engine}.parquet") for engine in ("local", "ray"))
    assert local["face_index"].null_count < local.num_rows
    assert_same_tables(ray, local, code_tolerance=1e-5)
    assert videos_of(tmp_path / "ray.parquet") == videos_of(tmp_path / "local.parquet")
    for summary in summaries.values():
        assert (summary["exit_code"], summary["failed"]) == (3, 3)


def test_a_stage_that_cannot_write_says_so_in_one_line(tmp_path: Path, model: Path, make_video: Callable[..., Path]):
    video = make_video(tmp_path / "a.mp4", num_frames=60, rate=20, gop=20)
    with pytest.raises(OutputError, match=r"^[^\n]*cannot be written[^\n]*$"):
        run(video, out=tmp_path / "e.parquet", model=model, engine="ray", reader=FolderRemover)
