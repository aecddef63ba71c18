"""Model folders that are whole, and those that are not: each is told in a line that names it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from fcvideo.errors import ModelError
from fcvideo.models.facecycle import FaceCycle
from fcvideo.models.store import CONFIG, WEIGHTS, WEIGHTS_HASH, load_config, load_model, model_hash, save_model


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    save_model(load_model(str(tiny_model)), tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("code_dim", 48, "weights and config.json do not agree, first at .*expected 48"),
        ("code_dim", 10_000_000, "do not agree, first at .*expected 10000000"),
        ("code_dim", "256", "code_dim: found '256', expected int"),
        ("code_dim", True, "code_dim: found True"),
        ("code_dim", 0, "code_dim: found 0"),
        ("code_dim", 1 << 70, "sizes that no network has|do not agree"),
        ("identity_blocks", 10_000_000, "identity_blocks: found 10000000"),
        ("encoder_widths", [16], r"encoder_widths: found \(16,\)"),
        ("framing_center", [0.5, float("nan")], "framing_center: found"),
        ("stem", "conv9_1", "stem: found 'conv9_1', expected one of"),
    ],
)
def test_sizes_that_are_not_those_of_the_weights_are_told_before_any_memory_is_taken(
    folder: Path, name: str, value: object, message: str
) -> None:
    edit(folder, lambda config: config["facecycle"].update({name: value}))
    for read in (load_config, load_model):  # the first is what a command's own process does
        with pytest.raises(ModelError, match=message) as told:
            read(str(folder))
        assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", '{"facecycle": 3}', '{"facecycle": null}', '"x"', "{}"])
def test_a_config_that_is_none_is_told_in_one_line(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text)
    with pytest.raises(ModelError, match=r"^[^\n]*config\.json[^\n]*$"):
        load_config(str(folder))


def test_weights_of_another_config_are_told(folder: Path, tmp_path: Path) -> None:
    """As a stop between the two files leaves them: weights of the new model, config of the one before."""
    other = FaceCycle(load_config(str(folder)))
    save_model(other, tmp_path / "other")
    (tmp_path / "other" / WEIGHTS).rename(folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"is not the one that config\.json names; was writing it interrupted"):
        load_config(str(folder))


def test_a_folder_of_an_earlier_version_still_loads(folder: Path) -> None:
    edit(folder, lambda config: config.pop(WEIGHTS_HASH))
    assert load_model(str(folder)).config == load_config(str(folder))
    save_file({}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"do not agree, first at .*found nothing"):
        load_config(str(folder))


def test_the_shipped_models_hash_is_what_tables_hold() -> None:
    assert model_hash("facecycle-64-small") == "7eb6725b1fdfcc7e45fbba2eb9c47632a8d2b03355ede1e1aa9e9812f0b7417e"
