"""A device whose memory is too small for a batch: it is halved, and what comes out is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fcvideo.errors import ResourceError
from fcvideo.survey.encoding import Encoding, FaceEncoder


def encoder(model: Path, folder: Path) -> FaceEncoder:
    encoding = Encoding(str(model), "float32", 16, cycle_error=True, error_precision="float32", parts_folder=folder)
    return FaceEncoder(encoding, "cpu")


def holds_at_most(encode: FaceEncoder, num_faces: int) -> list[int]:
    """Lets the device hold so many faces at once; gives the sizes of the batches that it is asked for."""
    look, asked = encode.model.look, []

    def look_within_memory(images: torch.Tensor) -> object:
        asked.append(len(images))
        if len(images) > num_faces:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return look(images)

    encode.model.look = look_within_memory
    return asked


def test_a_small_memory_halves_the_batch(tiny_model: Path, tmp_path: Path):
    crops = np.random.default_rng(0).integers(0, 256, (21, 64, 64, 3), dtype=np.uint8)
    whole, small = encoder(tiny_model, tmp_path), encoder(tiny_model, tmp_path)
    asked = holds_at_most(small, 5)
    for found, expected in zip(small.encode(crops), whole.encode(crops), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert asked == [16, 8, 4, 4, 4, 4, 4, 1]
    small.encode(crops[:8])
    assert asked[8:] == [4, 4]  # it has learned


def test_a_memory_for_nothing_is_told(tiny_model: Path, tmp_path: Path):
    encode = encoder(tiny_model, tmp_path)
    holds_at_most(encode, 0)
    with pytest.raises(ResourceError, match="found no memory for one face at a time"):
        encode.encode(np.zeros((3, 64, 64, 3), np.uint8))
