"""Recordings whose clock starts again in their middle: every frame is rendered, in order, from video and table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fcvideo.assembly.motion_source import CodeTable, Window
from fcvideo.config import EmbedSettings
from fcvideo.jobs.embed import embed
from fcvideo.models.store import load_config, model_hash
from tests.jobs.rendering import faces_of, run_frontalize, run_reenact, times_of, write_clip

SAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.mp4"


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return faces_of(SAMPLE, 12, (192, 192))


def test_a_second_recording_of_earlier_times_is_rendered_too(
    tmp_path: Path, tiny_model: Path, pictures: list[np.ndarray]
):
    joined = tmp_path / "joined.ts"
    times = [40 * i for i in range(84)]
    for name, start in (("a.ts", 60_000), ("b.ts", 1_000)):
        joined.open("ab").write(write_clip(tmp_path / name, pictures, [start + t for t in times]).read_bytes())
    summary = run_frontalize(joined, model=tiny_model, out=str(tmp_path / "out.mp4"))
    assert (summary["exit_code"], summary["frames"]) == (0, 168)
    steps = np.diff(times_of(tmp_path / "out.mp4"))
    np.testing.assert_allclose(steps, 0.04, atol=1e-3)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, pictures: list[np.ndarray]) -> Path:
    """Codes of 84 frames, 0.5 s apart, the first half of which has later times than the second."""
    folder = tmp_path_factory.mktemp("table")
    clip = write_clip(folder / "clip.mp4", pictures)
    path, flags = folder / "e.parquet", {"model": str(tiny_model), "gpus": 0, "progress": "none", "workers": 1}
    embed(EmbedSettings(inputs=(str(clip),), out=str(path), **flags))
    rows = pq.read_table(path)
    index = rows["frame_index"].to_numpy()
    seconds = pa.array(np.where(index < 42, 100 + 0.5 * index, 0.5 * (index - 42)))
    place = rows.schema.get_field_index("pts_seconds")
    pq.write_table(rows.set_column(place, rows.schema.field(place), seconds), path)
    return path


def test_a_table_of_two_clocks_loses_nothing(tmp_path: Path, tiny_model: Path, table: Path, pictures: list[np.ndarray]):
    face, out = tmp_path / "face.png", tmp_path / "out.mp4"
    Image.fromarray(pictures[0]).save(face)
    summary = run_reenact(table, face, tiny_model, out=str(out))  # in two segments
    assert (summary["exit_code"], summary["frames"]) == (0, 84)
    np.testing.assert_allclose(np.diff(times_of(out)), 0.5, atol=1e-6)


def test_a_window_counts_on_the_clock_that_goes_on(tiny_model: Path, table: Path):
    codes = CodeTable(table, model_hash(str(tiny_model)), load_config(str(tiny_model)).code_dim)
    (source,) = codes.sources()

    def frames(start: float | None, duration: float | None) -> list[int]:
        rows = codes.rows(source.source.name, Window(start, duration)).rows(["frame_index"])
        return sorted({index for part in rows for index in part["frame_index"].to_pylist()})

    assert frames(None, None) == list(range(84))
    assert frames(120.0, 2.0) == [40, 41, 42, 43]
    assert frames(None, 1.0) == [0, 1]
    assert frames(140.0, None) == [80, 81, 82, 83]
