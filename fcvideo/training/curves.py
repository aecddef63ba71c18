"""TensorBoard scalars and picture sheets, written by rank 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fcvideo.models.facecycle import FaceCycle
from fcvideo.training.sheets import draw_sheet

SHEET_PAIRS = 4


class Curves:
    """FOLDER/curves for TensorBoard, FOLDER/sheets for the pictures as PNG; nothing where `folder` is None."""

    def __init__(self, folder: Path | None, picture_steps: int) -> None:
        self.folder, self.picture_steps = folder, picture_steps
        self._writer: Any = None
        if folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:  # a bare training machine has torch alone; its losses are in the reports
                return
            self._writer = SummaryWriter(str(folder / "curves"))

    def write(self, stage: int, step: int, numbers: dict[str, float]) -> None:
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(f"stage{stage + 1}/{name}", value, step)

    def draw(self, model: FaceCycle, images: Tensor, stage: int, step: int) -> None:
        """A sheet of the batch's first pairs, every `picture_steps` steps."""
        if self.folder is None or not self.picture_steps or step % self.picture_steps:
            return
        first, second = images.chunk(2)
        sheet = draw_sheet(model, torch.cat([first[:SHEET_PAIRS], second[:SHEET_PAIRS]]))
        path = self.folder / "sheets" / f"stage{stage + 1}-{step:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(path)
        if self._writer is not None:
            self._writer.add_image(f"stage{stage + 1}/sheet", sheet, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
