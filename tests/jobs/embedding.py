"""Short ways to run `embed` and to read what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fcvideo.config import EmbedSettings
from fcvideo.jobs.embed import embed
from fcvideo.survey.reading import FaceReader


def run(*inputs: Path, out: Path | str, model: Path, reader: type[FaceReader] = FaceReader, **settings: Any) -> dict:
    flags = {"gpus": 0, "progress": "none", "workers": 1} | settings
    return embed(EmbedSettings(inputs=tuple(map(str, inputs)), out=str(out), model=str(model), **flags), reader)


def videos_of(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of the videos table by file name, without the time spent."""
    rows = pq.read_table(out.with_name(f"{out.stem}.videos.parquet")).to_pylist()
    return {Path(row["video"]).name: {k: v for k, v in row.items() if k != "seconds_spent"} for row in rows}


def assert_same_tables(found: pa.Table, expected: pa.Table, code_tolerance: float = 0.0) -> None:
    """Codes and cycle errors within the tolerance, all else exactly."""
    assert found.column_names == expected.column_names
    for name in found.column_names:
        one, other = found[name].combine_chunks(), expected[name].combine_chunks()
        if name in ("expression", "identity", "cycle_error"):
            assert one.is_null().equals(other.is_null()), name
            if name != "cycle_error":
                one, other = one.flatten(), other.flatten()
            ones, others = (np.nan_to_num(a.to_numpy(zero_copy_only=False)) for a in (one, other))
            np.testing.assert_allclose(ones, others, rtol=0, atol=code_tolerance, err_msg=name)
        else:
            assert one.equals(other), name
