"""Tiny data sets in the forms that people have them. Every picture is one colour, by which tests know it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fcvideo.evaluation.pictures import Pictures


def jpeg(value: int, side: int = 16) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (side, side), (value, value, value)).save(data, "JPEG")
    return data.getvalue()


def write_jpeg(path: Path, value: int = 0, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(value, side))
    return path


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_parquet(path: Path, columns: Mapping[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def value_of(pictures: Pictures, index: int) -> int:
    """The colour of a picture."""
    return round(float(np.asarray(pictures.image(index)).mean()))


def values_of(pictures: Pictures) -> list[int]:
    return [value_of(pictures, index) for index in range(len(pictures))]
