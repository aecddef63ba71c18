"""Pictures of an evaluation, as PNG files: confusion, ROC, pose, nearest neighbours, what the networks make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from fcvideo.atomic import written_atomically
from fcvideo.evaluation.features import Pictures as PictureSource
from fcvideo.evaluation.features import resize
from fcvideo.evaluation.verification import PairResult
from fcvideo.models.facecycle import FaceCycle
from fcvideo.training.sheets import COLUMNS, GAP_PX, draw_sheet

DPI = 150
INK, FAINT, BLUE, GREEN = "#222222", "#9a9a9a", "#0072b2", "#009e73"
# Okabe and Ito's colors, told apart by the color-blind too; dashes from the second round on.
COLORS = (BLUE, "#d55e00", GREEN, "#cc79a7", "#e69f00", "#56b4e9", INK)
DASHES = ("-", "--", ":")
STYLE: dict[Any, Any] = {  # mypy: its keys are literals there
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$"
}
FACE_PX = 96
FRAME_PX = 4


def draw_confusion(path: Path, truth: np.ndarray, found: np.ndarray, classes: Sequence[str], title: str = "") -> None:
    """Labels (N,) int, positions in `classes`: a row per true class, which sums to 100 %."""
    count = len(classes)
    table = np.bincount(truth * count + found, minlength=count * count).reshape(count, count)
    totals = table.sum(axis=1)
    shares = 100 * table / np.maximum(totals, 1)[:, None]
    with matplotlib.rc_context(STYLE):
        side = min(1.9 + 0.38 * count, 14)
        figure = Figure(figsize=(side + 0.9, side), layout="constrained")
        axes = figure.subplots()
        picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        if count <= 16:
            for row, column in np.ndindex(shares.shape):
                if totals[row]:
                    color = "white" if shares[row, column] > 55 else INK
                    axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=color)
        names = [name if len(name) <= 18 else name[:17] + "…" for name in classes]
        axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), [f"{name} ({n:,})" for name, n in zip(names, totals, strict=True)])
        axes.set_xlabel("found")
        axes.set_ylabel("true (pictures)")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(_title(title, f"{100 * np.mean(truth == found):.1f} % right"), loc="left")
        bar = figure.colorbar(picture, ax=axes, shrink=0.8, label="% of the row")
        bar.outline.set_visible(False)
        _save(figure, path)


def draw_roc(path: Path, results: Mapping[str, PairResult], title: str = "") -> None:
    """The ROC curves of all features in one, the best first in the legend."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1, linestyle=(0, (1, 2)), label="chance   0.500")
        ordered = sorted(results.items(), key=lambda item: -item[1].roc_auc)
        for number, (name, result) in enumerate(results.items()):
            axes.plot(
                100 * result.false_accept_rate,
                100 * result.true_accept_rate,
                color=COLORS[number % len(COLORS)],
                linestyle=DASHES[number // len(COLORS) % len(DASHES)],
                linewidth=1.6,
                label=name,
            )
        lines = {str(line.get_label()): line for line in axes.lines}
        axes.legend(
            [*(lines[name] for name, _ in ordered), axes.lines[0]],
            [*(f"{name}\n{_verdict(result)}" for name, result in ordered), "chance"],
            loc="center left",
            bbox_to_anchor=(1.02, 0.5),
            frameon=False,
            labelspacing=0.7,
        )
        axes.set(xlim=(-0.5, 100), ylim=(0, 100.5), aspect="equal")
        axes.set_xlabel("different persons taken for one, %")
        axes.set_ylabel("same person recognised, %")
        axes.grid(color="#e8e8e8", linewidth=0.7)
        axes.set_axisbelow(True)
        if title:
            axes.set_title(title, loc="left")
        _save(figure, path)


def _verdict(result: PairResult) -> str:
    return f"AUC {result.roc_auc:.3f}, accuracy {result.accuracy_percent:.1f} %"


def draw_pose(path: Path, truth_deg: np.ndarray, found_deg: np.ndarray, title: str = "") -> None:
    """True and found yaw, pitch and roll (N, 3) in degrees, a panel each."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.9), layout="constrained")
        panels = figure.subplots(1, 3)
        for column, (axes, angle) in enumerate(zip(panels, ("yaw", "pitch", "roll"), strict=True)):
            _scatter(axes, truth_deg[:, column], found_deg[:, column], angle)
        panels[0].set_ylabel("found, degrees")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        _save(figure, path)


def _scatter(axes: Axes, truth: np.ndarray, found: np.ndarray, angle: str) -> None:
    # A few odd predictions must not shrink the others to a dot.
    reach = 1.08 * max(float(np.abs(truth).max()), float(np.quantile(np.abs(found), 0.995)), 5.0)
    axes.plot([-reach, reach], [-reach, reach], color=FAINT, linewidth=1, zorder=1)
    crowd = max(len(truth), 1)
    axes.scatter(
        truth,
        found.clip(-reach, reach),
        s=float(np.clip(4000 / crowd, 3, 14)),
        alpha=float(np.clip(250 / crowd, 0.12, 0.7)),
        color=BLUE,
        linewidths=0,
        zorder=2,
    )
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_xlabel("true, degrees")
    axes.grid(color="#e8e8e8", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_title(f"{angle}: MAE {np.abs(truth - found).mean():.1f}°, r {_correlation(truth, found):.2f}", loc="left")


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's; 0 where one does not vary."""
    scale = x.std() * y.std()
    return float(((x - x.mean()) * (y - y.mean())).mean() / scale) if scale > 0 else 0.0


def nearest(vectors: np.ndarray, queries: np.ndarray, count: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Rows (Q, count) of `vectors` (N, D) that are nearest to rows `queries` (Q,) by cosine, the nearest first.

    Of each of the `groups` (N,), such as a clip, only the nearest is taken, and none of the query's own. Fewer columns
    where there are not `count` other groups.
    """
    group = np.arange(len(vectors)) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = min(count, int(group.max()))
    norms = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    found = np.empty((len(queries), count), np.int64)
    for row, query in enumerate(queries):
        order = np.argsort(-(vectors @ vectors[query]) / norms, kind="stable")
        order = order[group[order] != group[query]]
        _, first = np.unique(group[order], return_index=True)
        found[row] = order[np.sort(first)[:count]]
    return found


def draw_neighbours(
    path: Path,
    pictures: PictureSource,
    queries: np.ndarray,
    found: Mapping[str, np.ndarray],
    people: np.ndarray | None = None,
    title: str = "",
) -> None:
    """A row per query (Q,); beside it, for each name in `found`, the pictures (Q, K) that are nearest by it.

    Those of the query's own person, where `people` (N,) are known, have a green frame.
    """
    step, gap = FACE_PX + 2 * FRAME_PX, 28
    blocks = {"query": np.asarray(queries)[:, None], **found}
    lefts, width = {}, 0
    for name, rows in blocks.items():
        lefts[name] = width
        width += rows.shape[1] * step + gap
    canvas = np.full((len(queries) * step, width - gap, 3), 255, np.uint8)
    for name, rows in blocks.items():
        for (row, column), index in np.ndenumerate(rows):
            top, left = row * step, lefts[name] + column * step
            if people is not None and name != "query" and people[index] == people[queries[row]]:
                canvas[top : top + step, left : left + step] = (0, 158, 115)
            face = resize(pictures.image(int(index)), FACE_PX)
            inside = slice(top + FRAME_PX, top + FRAME_PX + FACE_PX), slice(left + FRAME_PX, left + FRAME_PX + FACE_PX)
            canvas[inside] = face
    marks = {f"nearest by {name}" if name != "query" else name: left + FRAME_PX for name, left in lefts.items()}
    _draw_canvas(path, canvas, marks, title, "green frame: the same person" if people is not None else "")


def draw_faces(path: Path, model: FaceCycle, images: Tensor, title: str = "") -> None:
    """The paper's figure 4 of normalized pairs (2B, 3, S, S), the second of each pair in the second half.

    A row per face, pairs together; columns as in `training.sheets`.
    """
    side, sheet = images.shape[-1], draw_sheet(model, images).permute(1, 2, 0).numpy()
    large, gap, pair_gap = max(128, side), 6, 16
    half = len(images) // 2
    width, height = len(COLUMNS) * (large + gap) - gap, half * (2 * (large + gap) + pair_gap) - gap - pair_gap
    canvas = np.full((height, width, 3), 255, np.uint8)
    for row, column in np.ndindex(len(images), len(COLUMNS)):
        top, left = row * (side + GAP_PX), column * (side + GAP_PX)
        cell = Image.fromarray(sheet[top : top + side, left : left + side])
        pair, member = row % half, row // half
        top, left = pair * (2 * (large + gap) + pair_gap) + member * (large + gap), column * (large + gap)
        resized = cell.resize((large, large), Image.Resampling.BICUBIC)
        canvas[top : top + large, left : left + large] = np.asarray(resized)
    labels = {"mean": "mean face", "pair-swapped": "from its pair"}
    marks = {labels.get(name, name): number * (large + gap) for number, name in enumerate(COLUMNS)}
    note = "flow: the hue is its direction, the saturation its length; rows stand in pairs, two pictures of one person"
    _draw_canvas(path, canvas, marks, title, note)


def _draw_canvas(path: Path, canvas: np.ndarray, marks: Mapping[str, int], title: str = "", note: str = "") -> None:
    """Pixels (H, W, 3) one to one, with words above at the given columns."""
    above, below, margin = 26 + (30 if title else 0), 32 if note else 10, 10
    height, width = canvas.shape[0] + above + below, canvas.shape[1] + 2 * margin
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=((width + 0.5) / DPI, (height + 0.5) / DPI))  # half a pixel against rounding down
        figure.figimage(canvas, xo=margin, yo=below)
        for word, left in marks.items():
            figure.text((margin + left) / width, (height - above + 7) / height, word, fontsize=7.5, va="bottom")
        if title:
            figure.text(margin / width, (height - 6) / height, title, fontsize=9, va="top")
        if note:
            figure.text(margin / width, 8 / height, note, fontsize=7.5, va="bottom", color="#666666")
        _save(figure, path)


def _title(*parts: str) -> str:
    return ": ".join(part for part in parts if part)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {"Software": "fcvideo"}
    with written_atomically(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=DPI, metadata=metadata)
