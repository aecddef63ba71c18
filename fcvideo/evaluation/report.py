"""An evaluation as one HTML page, to look at and to pass on: no network, no scripts, pictures inside."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from fcvideo import __version__
from fcvideo.atomic import written_atomically
from fcvideo.evaluation.leakage import SHOULD_HOLD

NAME = "report.html"
MANY_COLUMNS = 7  # a table with more is turned on its side
DEVIATION = "_deviation"  # after a number's name: its deviation over seeds or folds, shown behind it
LEFT_OUT = ("strengths",)
PIXELS_PER_POINT = 1.5  # diagrams are drawn for 150 dots an inch, pages count 96
OF_PIXELS = ("neighbours", "faces")  # pictures shown as large as they are

METRICS = {
    "accuracy_percent": "accuracy, %",
    "roc_auc": "ROC AUC",
    "tar_at_far_1_percent": "TAR at FAR 1 %, %",
    "yaw_mae_deg": "yaw MAE, °",
    "pitch_mae_deg": "pitch MAE, °",
    "roll_mae_deg": "roll MAE, °",
    "l1": "L1",
    "ssim": "SSIM",
    "psnr_db": "PSNR, dB",
    "fid": "FID",
    "fid_missing": "no FID",
    "seconds": "time, s",
    "num_train": "training pictures",
    "num_test": "test pictures",
    "num_skipped": "pictures left out",
    "num_without_face": "pictures without a face",
    "num_pairs": "pairs",
    "num_same": "pairs of one person",
    "num_faces": "faces",
    "num_people": "people",
    "real_accuracy_percent": "verification of real pictures, %",
    "real_same_percent": "real pairs of one person judged so, %",
    "real_same_cosine": "their mean cosine",
    "frontalised_kept_percent": "frontalised faces judged the same person, %",
    "frontalised_mean_cosine": "their mean cosine to the original",
    "frontalised_other_percent": "judged to be another person, %",
    "frontalised_other_cosine": "their mean cosine to another person",
    "reenacted_kept_percent": "reenacted faces judged the same person, %",
    "reenacted_mean_cosine": "their mean cosine to the original",
    "reenacted_other_percent": "judged to be the person who gave the expression, %",
    "reenacted_other_cosine": "their mean cosine to that person",
}
HIGHER = ("accuracy_percent", "roc_auc", "tar_at_far_1_percent", "ssim", "psnr_db")
LOWER = ("yaw_mae_deg", "pitch_mae_deg", "roll_mae_deg", "l1", "fid")
COARSE = ("_percent", "_deg", "_db", "seconds", "fid")  # endings of numbers that need one digit
ROWS = {
    "own_neutral": "rebuilt from its own neutral face",
    "pair_neutral": "rebuilt from its pair's neutral face",
    "pair_picture": "the pair's picture as it is (rival)",
    "nothing": "nothing at all (floor)",
}
HEADINGS = {
    "features": "Features side by side",
    "reconstruction": "Faces rebuilt, against the input",
    "spread": "Deviation across people, mean over pixels",
    "identity": "Who it is: same person or not",
    "pose": "Head pose",
    "expression": "Expression",
}
NOTES = {
    "expression": "A linear classifier reads each frozen feature: the better it does, the more plainly the feature "
    "holds expression. The best of a column is bold; ± is the spread over seeds, of which diagrams show the first.",
    "pose": "A linear regression reads head pose from each frozen feature; the mean absolute error per angle, lower "
    "is better. The best of a column is bold; ± is the spread over seeds, of which diagrams show the first.",
    "verification": "Two pictures, one person or not, by the cosine of their features. Accuracy is at the threshold "
    "that suits the other folds best, with the deviation over folds; TAR at FAR 1 % is the share of same-person pairs "
    "recognised when 1 % of the others are taken for one.",
    "identity-kept": "Generated faces against their originals, by the threshold that verification of real pictures "
    "gives. A feature that takes everyone for the same person keeps every identity, so the share judged to be another "
    "person stands beside.",
    "reconstruction": "Each face is rebuilt from a neutral face with its own motion. From its pair's neutral face it "
    "must beat the rival, which shows the pair's picture as it is. Mean faces should differ much less across people "
    "than neutral faces. FID needs some ten thousand faces to mean much.",
    "leakage": "Each property of a face should be read from one code and not from the other. A code that holds "
    "nothing of it is no better than the floor.",
}
CAPTIONS = {
    "confusion": "Confusion matrix",
    "roc": "ROC curves",
    "pose": "True and found head pose",
    "neighbours": "Nearest neighbours",
    "faces": "What the networks make of faces",
}
STYLE = """
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #222; background: #fff;
  max-width: 72rem; margin: 2.5rem auto; padding: 0 1.25rem }
h1 { font-size: 1.6rem; margin: 0 0 .25rem }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem }
p.note { color: #555; max-width: 46rem; margin: .25rem 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .32rem .9rem .32rem 0; text-align: right; border-bottom: 1px solid #e4e4e4; vertical-align: bottom }
td { white-space: nowrap }
th { font-weight: 500; color: #555; max-width: 11rem }
th:first-child, .facts td { text-align: left }
tbody th { color: #222; font-weight: 400; max-width: none }
.facts td { white-space: normal; overflow-wrap: anywhere }
td b { color: #00588a }
small { color: #777 }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem 2rem; align-items: flex-start }
figure { margin: 0; max-width: 100% }
figure img { display: block; max-width: 100%; height: auto }
figcaption { color: #555; margin-bottom: .4rem }
footer { margin-top: 3rem; color: #888; font-size: .85rem }
"""

Scalars = Mapping[str, Any]


def write_report(out: Path, result: Mapping[str, Any], pictures: Sequence[Path]) -> Path:
    """OUT/report.html of the command's JSON result, with PNG pictures in their order; returns its path.

    Plain values are listed, a dict of them is a table of two columns, a dict of such dicts a table with a row each, and
    one level more is a table each; `nothing`, the floor, is a row of `features`. Unknown names are shown as they are.
    Errors: OutputError where the disk refuses.
    """
    if "nothing" in result and "features" in result:
        rows = {**result["features"], "nothing": result["nothing"]}
        result = {name: rows if name == "features" else value for name, value in result.items() if name != "nothing"}
    task = str(result.get("task", ""))
    facts = {name: value for name, value in result.items() if _is_plain(value) and name not in ("task", "exit_code")}
    parts = [f"<h1>{escape(_words(task).capitalize() or 'Evaluation')}</h1>"]
    if task in NOTES:
        parts.append(f'<p class="note">{escape(NOTES[task])}</p>')
    parts += [_section(name, value) for name, value in result.items() if isinstance(value, Mapping) and value]
    if pictures:
        figures = "\n".join(_figure(path) for path in pictures)
        parts.append(f'<h2>Pictures</h2>\n<div class="figures">{figures}</div>')
    if facts:
        parts += ["<h2>How it was measured</h2>", _facts(facts)]
    parts.append(f"<footer>fcvideo {escape(__version__)}, evaluate</footer>")
    # The policy holds browsers to what the page promises: nothing is fetched.
    body = "\n".join(parts)
    page = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fcvideo evaluate: {escape(task)}</title>
<style>{STYLE}</style>
{body}
</html>
"""
    path = out / NAME
    out.mkdir(parents=True, exist_ok=True)
    with written_atomically(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return path


def _section(name: str, value: Mapping[str, Any]) -> str:
    title = f"<h2>{escape(HEADINGS.get(name, _words(name).capitalize()))}</h2>"
    if all(_is_plain(item) for item in value.values()):
        return title + _facts(value)
    parts = [title] if name != "leakage" else []
    if plain := {key: item for key, item in value.items() if _is_plain(item)}:
        parts.append(_facts(plain))
    rows = {key: item for key, item in value.items() if _is_row(item)}
    if rows:
        parts.append(_table(rows, marks_best=name == "features"))
    for key, item in value.items():
        if isinstance(item, Mapping) and not _is_row(item):
            level = "h2" if name == "leakage" else "h3"
            parts.append(f"<{level}>{escape(HEADINGS.get(key, _words(key).capitalize()))}</{level}>")
            holder = SHOULD_HOLD.get(key) if name == "leakage" else None
            nested = {row: cells for row, cells in item.items() if _is_row(cells)}
            parts.append(_table(nested, holder=holder) if nested else _facts(item))
    return "\n".join(parts)


def _table(rows: Mapping[str, Scalars], *, marks_best: bool = False, holder: str | None = None) -> str:
    """A row each; `holder` is the row, of a table of leakage, that should hold the property."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row if _is_column(name, row)))
    labels = {row: escape(ROWS.get(row, _words(row))) for row in rows}
    if holder is not None:
        for row in labels:
            if row != "nothing":
                labels[row] += " <small>should hold it</small>" if row == holder else " <small>should not</small>"
    turned = len(names) > MANY_COLUMNS
    best = {name: _best(name, rows) if marks_best and not turned else None for name in names}
    cells = {(row, name): _cell(rows[row], name, best[name]) for row in rows for name in names}
    heads = {name: escape(_metric(name)) for name in names}
    if turned:
        return _grid(heads, labels, {(name, row): cell for (row, name), cell in cells.items()})
    return _grid(labels, heads, cells)


def _grid(rows: Mapping[str, str], columns: Mapping[str, str], cells: Mapping[tuple[str, str], str]) -> str:
    head = "".join(f"<th>{label}</th>" for label in ("", *columns.values()))
    lines = [
        f"<tr><th>{label}</th>" + "".join(f"<td>{cells[row, column]}</td>" for column in columns) + "</tr>"
        for row, label in rows.items()
    ]
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{"".join(lines)}</tbody></table></div>'


def _facts(values: Scalars) -> str:
    lines = [
        f"<tr><th>{escape(_metric(name))}</th><td>{escape(_number(name, value))}</td></tr>"
        for name, value in values.items()
    ]
    return f'<table class="facts"><tbody>{"".join(lines)}</tbody></table>'


def _figure(path: Path) -> str:
    kind, _, rest = path.stem.partition("-")
    caption = CAPTIONS.get(kind, _words(kind).capitalize()) + (f": {_words(rest)}" if rest else "")
    with Image.open(path) as picture:
        width = picture.width if kind in OF_PIXELS else round(picture.width / PIXELS_PER_POINT)
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img src="data:image/png;base64,{data}" width="{width}" alt="{escape(caption)}">'
    return f"<figure><figcaption>{escape(caption)}</figcaption>{image}</figure>"


def _is_plain(value: Any) -> bool:
    """A value, or a list of values."""
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float)


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_plain(item) for item in value.values())


def _is_column(name: str, row: Scalars) -> bool:
    is_deviation = name.endswith(DEVIATION) and name.removesuffix(DEVIATION) in row
    return not is_deviation and name not in LEFT_OUT


def _best(name: str, rows: Mapping[str, Scalars]) -> float | None:
    """The best of a column, where it is known which way is better and there is a choice."""
    numbers = [float(row[name]) for row in rows.values() if isinstance(row.get(name), int | float)]
    if len(numbers) < 2 or name not in HIGHER + LOWER:
        return None
    return max(numbers) if name in HIGHER else min(numbers)


def _cell(row: Scalars, name: str, best: float | None) -> str:
    text, spread = escape(_number(name, row.get(name))), row.get(name + DEVIATION)
    text = f"<b>{text}</b>" if best is not None and row.get(name) == best else text
    return text if spread is None else f"{text} <small>± {escape(_number(name, spread))}</small>"


def _number(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_number(name, item) for item in value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name.endswith(COARSE):
        return f"{value:.1f}"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
    return str(value)


def _metric(name: str) -> str:
    if name in METRICS:
        return METRICS[name]
    for suffix, unit in (("_percent", ", %"), ("_deg", ", °"), ("_px", ", px"), ("_seconds", ", s")):
        if name.endswith(suffix):
            return _words(name.removesuffix(suffix)) + unit
    return _words(name)


def _words(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")
