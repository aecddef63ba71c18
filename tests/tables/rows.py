"""Small embeddings tables with known values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from fcvideo.tables.schema import FaceColumns, embeddings_table

CODE_DIM = 8


def face_rows(
    video: str,
    faces_per_frame: Sequence[int],
    first_frame: int = 0,
    undecoded: Sequence[int] = (),
    code_dim: int = CODE_DIM,
) -> pa.Table:
    """25 frames a second; face k of every frame stays at x = 100 k and has the code k everywhere."""
    num_frames = len(faces_per_frame)
    frame = np.repeat(np.arange(num_frames), faces_per_frame)
    face = np.concatenate([np.arange(n) for n in faces_per_frame] or [np.empty(0, int)]).astype(np.float32)
    code = np.tile(np.cos(np.outer(face + 1, np.arange(code_dim))), 1).astype(np.float32)
    boxes = np.stack([100 * face, 0 * face, 0 * face + 40, 0 * face + 50 - face], axis=1)
    frame_index = np.arange(num_frames) + first_frame
    return embeddings_table(
        video,
        "f" * 32,
        frame_index,
        frame_index / 25,
        ~np.isin(np.arange(num_frames), undecoded),
        FaceColumns(
            frame,
            boxes.astype(np.float32),
            0.9 - face / 100,
            np.tile(face[:, None, None], (1, 5, 2)),
            np.tile(np.array([[0.5, 0, 1], [0, 0.5, 2]]), (len(face), 1, 1)),
            code,
            code + 0,
            face / 10,
        ),
    )
