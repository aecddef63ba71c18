"""The numbers of an evaluation as tables for people, on stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

# key in the result, heading, digits, and the key of what stands behind ±
Column = tuple[str, str, int, str | None]
ACCURACY: Column = ("accuracy_percent", "accuracy %", 1, "accuracy_percent_deviation")
POSE: tuple[Column, ...] = tuple(
    (f"{angle}_mae_deg", f"{angle} MAE °", 2, f"{angle}_mae_deg_deviation") for angle in ("yaw", "pitch", "roll")
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "expression": (ACCURACY,),
    "pose": POSE,
    "verification": (ACCURACY, ("roc_auc", "ROC AUC", 3, None), ("tar_at_far_1_percent", "TAR % at FAR 1 %", 1, None)),
    "identity": (ACCURACY, ("roc_auc", "ROC AUC", 3, None)),
    "identity-kept": (
        ("accuracy_percent", "kept %", 1, None),
        ("frontalised_kept_percent", "frontalised %", 1, None),
        ("reenacted_kept_percent", "reenacted %", 1, None),
        ("mean_cosine", "mean cosine", 3, None),
    ),
    "reconstruction": (
        ("l1", "L1", 4, None),
        ("ssim", "SSIM", 3, None),
        ("psnr_db", "PSNR dB", 2, None),
        ("fid", "FID", 1, None),
    ),
    "spread": (("value", "deviation", 4, None),),
}
DEVIATION_OF = {
    "expression": "over seeds",
    "pose": "over seeds",
    "verification": "over folds",
}


def print_tables(result: Mapping[str, Any]) -> None:
    """One table for most tasks, more for leakage and reconstruction."""
    console = Console(stderr=True)
    task = result["task"]
    if "features" in result:
        console.print(_table(task, result["features"], COLUMNS[task]))
        if task in DEVIATION_OF:
            console.print(f"± standard deviation {DEVIATION_OF[task]}", markup=False, highlight=False)
    for held, rows in result.get("leakage", {}).items():
        console.print(_table(f"{held} read from", rows, COLUMNS[held]))
    if task == "reconstruction":
        console.print(_table("faces rebuilt from", result["reconstruction"], COLUMNS[task]))
        spread = {name: {"value": value} for name, value in result["spread"].items()}
        console.print(_table("difference between people, of", spread, COLUMNS["spread"]))
        if "fid_missing" in result:
            console.print(f"no FID: {result['fid_missing']}", markup=False, highlight=False, soft_wrap=True)


def _table(title: str, rows: Mapping[str, Mapping[str, Any]], columns: Sequence[Column]) -> Table:
    table = Table()
    table.add_column(title, no_wrap=True)
    for _, heading, _, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, values in rows.items():
        table.add_row(name.replace("_", " "), *(_cell(values, column) for column in columns))
    return table


def _cell(values: Mapping[str, Any], column: Column) -> str:
    key, _, digits, deviation_key = column
    if values.get(key) is None:
        return "-"
    deviation = values.get(deviation_key) if deviation_key else None
    return f"{values[key]:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")
