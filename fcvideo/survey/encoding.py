"""The second stage of `embed`, on a GPU or the CPU: turns a chunk's crops into codes, and writes its rows as a part."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fcvideo.errors import ResourceError
from fcvideo.models.facecycle import normalize
from fcvideo.models.precision import has_fast_bfloat16
from fcvideo.models.store import load_model
from fcvideo.survey.reading import Chunk
from fcvideo.tables.parts import Part, video_key
from fcvideo.tables.schema import FaceColumns, embeddings_table, with_signatures

# Of 8, 16, 32 and 64 faces per pass, 16 are the fastest on a CPU core: 13.1 ms a face against 15.2 for 64, whose maps
# do not stay in its cache.
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 16, 64


@dataclass(frozen=True)
class Encoding:
    """How faces become codes, and where the rows go: all that an encoder must know."""

    model: str  # folder or name
    precision: str  # float32, bfloat16 or float16
    batch_size: int | None  # None: what suits the device
    cycle_error: bool
    error_precision: str  # of the cycle error alone, see `error_precision`
    parts_folder: Path


@dataclass(frozen=True)
class Written:
    """The receipt for one chunk whose rows are on the disk."""

    video: str
    segment: int
    is_last: bool
    num_frames: int
    num_faces: int


def error_precision(precision: str, device: str, *, is_free: bool) -> str:
    """Number format of the cycle error: bfloat16 where the device is fast in it and the codes are in float32.

    It is chosen once, where a run begins, and stands in the run's identity: it moves the third digit. Codes are never
    computed so. `is_free`: the user named no precision.
    """
    is_rough = is_free and precision == "float32" and has_fast_bfloat16(torch.device(device))
    return "bfloat16" if is_rough else precision


class FaceEncoder:
    """Turns the crops of a chunk into codes on one device, and writes its rows as a part file."""

    def __init__(self, encoding: Encoding, device: str, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.encoding = encoding
        self.device = torch.device(device)
        self.dtype = getattr(torch, encoding.precision)
        self.error_dtype = getattr(torch, encoding.error_precision)
        self.batch_size = encoding.batch_size or (CPU_BATCH_SIZE if device == "cpu" else GPU_BATCH_SIZE)
        # channels_last: 16 ms a face instead of 20 on a CPU core, with the cycle error
        self.model = load_model(encoding.model).to(self.device).to(memory_format=torch.channels_last)

    def __call__(self, chunk: Chunk) -> Written:
        started = time.monotonic()
        expression, identity, cycle_error = self.encode(chunk.crops)
        faces = FaceColumns(
            chunk.face_frame,
            chunk.boxes,
            chunk.scores,
            chunk.landmarks,
            chunk.affines,
            expression,
            identity,
            cycle_error,
        )
        video = chunk.segment.source.name
        rows = embeddings_table(video, chunk.video_id, chunk.frame_index, chunk.pts_seconds, chunk.is_decoded, faces)
        rows = with_signatures(rows, chunk.signatures)
        record = {
            "num_frames_sampled": len(chunk.frame_index),
            "num_frames_decoded": int(chunk.is_decoded.sum()),
            "num_damaged": chunk.num_damaged,
            "num_faces": len(chunk.crops),
            "status": chunk.status,
            "error": chunk.error,
            "seconds": chunk.seconds + time.monotonic() - started,
        }
        part = Part(self.encoding.parts_folder, video_key(video), chunk.segment.index, chunk.index, chunk.is_last)
        part.write(rows, record)
        return Written(video, chunk.segment.index, chunk.is_last, len(chunk.frame_index), len(chunk.crops))

    def encode(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """uint8 (N, S, S, 3) to expression and identity (N, D) and cycle errors (N,) or None, all float32.

        Batches are formed within the chunk alone, so that a face's last digits do not depend on the run. Where the
        device's memory is too small for them they are halved, for this chunk and all later ones. Errors: ResourceError.
        """
        expression = np.empty((len(crops), self.model.config.code_dim), np.float32)
        identity = np.empty_like(expression)
        cycle_error = np.empty(len(crops), np.float32) if self.encoding.cycle_error else None
        start = 0
        while start < len(crops):
            rows = slice(start, start + self.batch_size)
            try:
                found = self._encode_batch(crops[rows])
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise ResourceError(
                        f"{self.device}: found no memory for one face at a time; go on with --gpus 0 (CPU)"
                    ) from None
                self.batch_size //= 2
                continue
            expression[rows], identity[rows] = found[:2]
            if cycle_error is not None:
                cycle_error[rows] = found[2]
            start = rows.stop
        return expression, identity, cycle_error

    @torch.inference_mode()
    def _encode_batch(self, crops: np.ndarray) -> tuple[Tensor, Tensor, Tensor | None]:
        images = normalize(torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2))
        with self._autocast(self.dtype):
            seen = self.model.look(images) if self.encoding.cycle_error else None
            codes = self.model.embed(images, cycle_error=False, seen=seen)
        cycle_error = None
        if self.encoding.cycle_error:
            with self._autocast(self.error_dtype):
                cycle_error = self.model.cycle_error(images, codes.expression, seen).float().cpu()
        return codes.expression.float().cpu(), codes.identity.float().cpu(), cycle_error

    def _autocast(self, dtype: torch.dtype) -> torch.autocast:
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)
