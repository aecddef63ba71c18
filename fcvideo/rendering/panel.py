"""Pictures side by side with a label above each."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP_PX = 2
BACKGROUND, INK = (250, 250, 250), (40, 40, 40)
NOTHING = 225  # gray of a cell without a picture


def panel_size(num_cells: int, side_px: int) -> tuple[int, int]:
    """Width and height of a panel, both even, as video codecs want them."""
    width = num_cells * side_px + (num_cells - 1) * GAP_PX
    return width + width % 2, label_height(side_px) + side_px


def label_height(side_px: int) -> int:
    return 2 * max(8, side_px // 24)


def draw_panel(labels: Sequence[str], cells: Sequence[np.ndarray | None], side_px: int) -> np.ndarray:
    """uint8 (height, width, 3) of cells uint8 (side_px, side_px, 3) or None, from left to right."""
    panel = _empty_panel(tuple(labels), side_px).copy()
    for number, cell in enumerate(cells):
        left, top = number * (side_px + GAP_PX), label_height(side_px)
        panel[top : top + side_px, left : left + side_px] = NOTHING if cell is None else cell
    return panel


@functools.lru_cache(maxsize=8)
def _empty_panel(labels: tuple[str, ...], side_px: int) -> np.ndarray:
    height = label_height(side_px)
    picture = Image.new("RGB", panel_size(len(labels), side_px), BACKGROUND)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(height * 0.7)
    for number, label in enumerate(labels):
        middle = number * (side_px + GAP_PX) + side_px / 2
        draw.text((middle, height / 2), label, INK, font, anchor="mm")
    return np.asarray(picture)
