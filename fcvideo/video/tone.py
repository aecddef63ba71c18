"""Pictures in high dynamic range or wide colors (HLG, PQ, BT.2020) as a BT.709 screen shows them.

The wheels' FFmpeg is without zscale, so the conversion is a 3D table of ours, which its lut3d filter applies.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import av.filter
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from PIL import ImageFilter

PLANAR_RGB = "gbrp12le"  # what is mapped: full range, in the colors of the video
_TABLE_SIDE = 33
_WHITE_NITS = 203.0  # of diffuse white in HDR (ITU-R BT.2408); it is the white of the result
_HLG_PEAK_NITS, _PQ_PEAK_NITS = 1000.0, 10_000.0
_HLG_SYSTEM_GAMMA = 1.2
_SCREEN_GAMMA = 2.4  # of a BT.709 screen (ITU-R BT.1886)
_PQ_KNEE = 0.7  # up to here light is left as it is
_PQ_MASTERED_NITS = 1000.0  # brighter light is clipped: most masters end here
_TO_BT709 = {  # linear light, by the primaries' number in ISO/IEC 23091-2 (BT.709, BT.2020, Display P3)
    1: np.eye(3),
    9: np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]),
    12: np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]]),
}
_BT2020 = 9
_PQ, _HLG = 16, 18  # transfer characteristics, likewise


class WideColors(NamedTuple):
    transfer: Literal["pq", "hlg", "sdr"]
    primaries: int


def wide_colors(frame: VideoFrame | VideoCodecContext) -> WideColors | None:
    """Its tags, if they are more than a BT.709 screen shows."""
    return tagged_colors(int(frame.color_primaries), int(frame.color_trc))


def tagged_colors(primaries: int, transfer: int) -> WideColors | None:
    """Numbers are of ISO/IEC 23091-2; HDR without primaries has those of BT.2020."""
    if transfer in (_PQ, _HLG):
        return WideColors("pq" if transfer == _PQ else "hlg", primaries if primaries in _TO_BT709 else _BT2020)
    return WideColors("sdr", primaries) if primaries == _BT2020 else None


class ToneMapper:
    """Maps frames of one kind of colors, in PLANAR_RGB; keeps one filter graph, which a change of size renews."""

    def __init__(self, colors: WideColors) -> None:
        self.colors = colors
        self._graph: av.filter.Graph | None = None
        self._size = (0, 0)

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame in rgb24 and BT.709."""
        if self._graph is None or self._size != (frame.width, frame.height):
            self._size, self._graph = (frame.width, frame.height), _graph(frame, self.colors)
        self._graph.push(frame)
        mapped = self._graph.pull()
        assert isinstance(mapped, VideoFrame)
        return mapped


def _graph(frame: VideoFrame, colors: WideColors) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    with tempfile.NamedTemporaryFile("w", suffix=".cube", encoding="ascii") as cube:
        cube.write(_cube(colors))
        cube.flush()
        graph.link_nodes(
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
            graph.add("lut3d", f"file={Path(cube.name).as_posix()}:interp=tetrahedral"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ).configure()
    return graph


@lru_cache
def _cube(colors: WideColors) -> str:
    """The table in Resolve's format."""
    rows = "\n".join(" ".join(f"{level:.6f}" for level in row) for row in _table(colors).tolist())
    return f"LUT_3D_SIZE {_TABLE_SIDE}\n{rows}\n"


@lru_cache
def picture_filter(colors: WideColors) -> ImageFilter.Color3DLUT:
    """For Pillow's pictures in 8-bit RGB."""
    return ImageFilter.Color3DLUT(_TABLE_SIDE, _table(colors).ravel().tolist())


def _table(colors: WideColors) -> np.ndarray:
    """(side^3, 3); red varies fastest."""
    axis = np.linspace(0, 1, _TABLE_SIDE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    return bt709_of(np.stack([red, green, blue], axis=-1).reshape(-1, 3), colors)


def bt709_of(rgb: np.ndarray, colors: WideColors) -> np.ndarray:
    """(N, 3) float64 signal, 0 to 1, in the video's colors -> (N, 3) signal in BT.709, 0 to 1.

    The brightest channel is compressed and the others follow, as FFmpeg's tonemap filter does, so that hues stay.
    """
    linear = _light(rgb, colors.transfer) @ _TO_BT709[colors.primaries].T
    linear = np.maximum(linear, 0)
    brightest = np.maximum(linear.max(axis=1, keepdims=True), 1e-9)
    shown = np.clip(linear * (_compressed(brightest, colors.transfer) / brightest), 0, 1)
    return shown ** (1 / _SCREEN_GAMMA)


def _light(rgb: np.ndarray, transfer: str) -> np.ndarray:
    """Linear light on the screen; 1 is diffuse white."""
    if transfer == "pq":  # SMPTE ST 2084
        root = rgb ** (1 / 78.84375)
        nits = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        return nits * (_PQ_PEAK_NITS / _WHITE_NITS)
    if transfer == "hlg":  # ARIB STD-B67, and the system gamma channel by channel, as zimg (FFmpeg's zscale) has it
        scene = np.where(rgb <= 0.5, rgb**2 / 3, (np.exp((rgb - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        return scene**_HLG_SYSTEM_GAMMA * (_HLG_PEAK_NITS / _WHITE_NITS)
    return rgb**_SCREEN_GAMMA


def _compressed(light: np.ndarray, transfer: str) -> np.ndarray:
    if transfer == "hlg":  # Reinhard's: greys come out as bright as the signal itself is on an SDR screen
        return light / (light + 1)
    if transfer == "pq":  # FFmpeg's mobius: the identity up to the knee, then smooth to the peak
        peak, knee = _PQ_MASTERED_NITS / _WHITE_NITS, _PQ_KNEE
        a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
        b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
        shoulder = (b * b + 2 * b * knee + knee * knee) / (b - a) * (light + a) / (light + b)
        return np.where(light <= knee, light, shoulder)
    return light
