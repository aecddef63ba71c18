from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcvideo.evaluation.report import METRICS, write_report


class Page(HTMLParser):
    """Tables as rows of texts, texts by tag, and what is loaded from where."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.sources: list[str] = []
        self.bold: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag in ("img", "meta"):
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open:
            return
        self.texts.setdefault(self._open[-1], []).append(data)
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data
        if self._open[-1] == "b":
            self.bold.append(data)


def write(tmp_path: Path, result: dict[str, Any], pictures: list[Path] | None = None) -> Page:
    return Page(write_report(tmp_path / "evaluation", result, pictures or []))


@pytest.fixture
def expression() -> dict[str, Any]:
    rows = {"map": (47.26, 0.1), "hog": (46.3, 0.0), "lbp": (47.26, 0.24)}
    features = {
        name: {"accuracy_percent": a, "accuracy_percent_deviation": d, "strengths": [0.1, 0.3], "dimensions": 2048}
        for name, (a, d) in rows.items()
    }
    nothing = {"accuracy_percent": 24.9}
    facts = {"model": "m", "num_train": 28709, "limit": None, "seeds": [0, 1], "out": "evaluation", "exit_code": 0}
    return {"task": "expression", "features": features, "nothing": nothing, **facts}


def test_features_stand_side_by_side_with_their_deviation_and_the_floor(
    expression: dict[str, Any], tmp_path: Path
) -> None:
    page = write(tmp_path, expression)
    assert page.tables[0] == [
        ["", "accuracy, %", "dimensions"],
        ["map", "47.3 ± 0.1", "2,048"],
        ["hog", "46.3 ± 0.0", "2,048"],
        ["lbp", "47.3 ± 0.2", "2,048"],
        ["nothing at all (floor)", "24.9", "–"],
    ]
    assert page.bold == ["47.3", "47.3"]  # both of the best
    facts = dict(page.tables[1])
    assert facts == {"model": "m", "training pictures": "28,709", "limit": "–", "seeds": "0, 1", "out": "evaluation"}
    assert page.texts["h1"] == ["Expression"]


def test_lower_errors_are_better(tmp_path: Path) -> None:
    features = {
        "hog": {"yaw_mae_deg": 9.7, "yaw_mae_deg_deviation": 0.0},
        "map": {"yaw_mae_deg": 8, "yaw_mae_deg_deviation": 0.2},
    }
    page = write(tmp_path, {"task": "pose", "features": features})
    assert page.tables[0] == [["", "yaw MAE, °"], ["hog", "9.7 ± 0.0"], ["map", "8.0 ± 0.2"]]
    assert page.bold == ["8.0"]


def test_pictures_are_inside_and_nothing_is_fetched(expression: dict[str, Any], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("confusion-identity-map.png", "odd.png")]
    for path in paths:
        Image.fromarray(np.zeros((30, 60, 3), np.uint8)).save(path)
    page = write(tmp_path, expression, paths)
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.texts["figcaption"] == ["Confusion matrix: identity map", "Odd"]
    text = (tmp_path / "evaluation" / "report.html").read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "<script" not in text


def test_names_from_outside_are_text(tmp_path: Path) -> None:
    evil = "<img src=http://x>&"
    result = {"task": evil, "features": {evil: {evil: 1.0}}, evil: {evil: evil}, "model": evil}
    page = write(tmp_path, result)
    assert page.sources == []
    assert page.tables[0][1][0] == evil


def test_leakage_says_which_code_should_hold_what(tmp_path: Path) -> None:
    rows = {name: {"accuracy_percent": 60.0, "roc_auc": 0.6} for name in ("expression", "identity", "nothing")}
    page = write(
        tmp_path, {"task": "leakage", "leakage": {"identity": rows, "pose": {"expression": {"yaw_mae_deg": 9.0}}}}
    )
    assert [row[0] for row in page.tables[0]] == [
        "",
        "expression should not",
        "identity should hold it",
        "nothing at all (floor)",
    ]
    assert page.tables[1] == [["", "yaw MAE, °"], ["expression should hold it", "9.0"]]
    assert page.texts["h2"] == ["Who it is: same person or not", "Head pose"]
    assert page.bold == []


def test_rebuilt_faces_stand_beside_the_rival(tmp_path: Path) -> None:
    row = {"l1": 0.0516, "ssim": 0.7727, "psnr_db": 22.29, "fid": None}
    rows = dict.fromkeys(("own_neutral", "pair_neutral", "pair_picture"), row)
    result = {"reconstruction": rows, "spread": {"mean_faces": 0.05, "neutral_faces": None}, "fid_missing": "not here"}
    page = write(tmp_path, {"task": "reconstruction", **result})
    assert page.tables[0][0] == ["", "L1", "SSIM", "PSNR, dB", "FID"]
    assert page.tables[0][3] == ["the pair's picture as it is (rival)", "0.052", "0.773", "22.3", "–"]
    assert page.tables[1] == [["mean faces", "0.050"], ["neutral faces", "–"]]
    assert page.tables[2] == [["no FID", "not here"]]


def test_a_table_of_many_columns_is_turned(tmp_path: Path) -> None:
    names = [name for name in METRICS if name.startswith(("real", "frontalised", "reenacted"))]
    page = write(tmp_path, {"task": "identity-kept", "features": {"identity": dict.fromkeys(names, 0.5)}})
    assert page.tables[0][0] == ["", "identity"]
    assert [row[0] for row in page.tables[0][1:]] == [METRICS[name] for name in names]


def test_results_of_unknown_shape_still_make_a_page(tmp_path: Path) -> None:
    result = {
        "task": "new",
        "empty": {},
        "mixed": {"a": 1, "b": {"x": 1.0}, "c": {"d": {"y": True}}},
        "nan": float("nan"),
    }
    page = write(tmp_path, result)
    assert page.tables == [[["a", "1"]], [["", "x"], ["b", "1.000"]], [["", "y"], ["d", "yes"]], [["nan", "–"]]]
    assert write(tmp_path, {}).texts["h1"] == ["Evaluation"]
