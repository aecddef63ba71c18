import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fcvideo.errors import ModelError
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig
from fcvideo.models.store import WEIGHTS_HASH, load_model, model_hash, save_model
from fcvideo.models.vgg import VGG19, load_vgg

SMALL = FaceCycleConfig.preset("facecycle-64-small")


def test_a_saved_model_comes_back_with_its_config(tmp_path: Path) -> None:
    model = FaceCycle(SMALL).eval()
    save_model(model, tmp_path / "model", half=False)
    loaded = load_model(str(tmp_path / "model"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model.embed(images), loaded.embed(images), strict=True))
    assert loaded.config == SMALL
    assert not loaded.training


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    model = FaceCycle(SMALL)
    save_model(model, tmp_path / "full", half=False)
    save_model(model, tmp_path / "half")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[0] / sizes[1] == pytest.approx(2, rel=0.01)
    assert model_hash(str(tmp_path / "full")) != model_hash(str(tmp_path / "half"))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "no such model"),
        (lambda folder: folder.mkdir(), "not a model folder"),
        (lambda folder: (folder.mkdir(), (folder / "config.json").write_text("{}")), "no model.safetensors"),
    ],
)
def test_what_is_not_a_model_is_named(tmp_path: Path, prepare, message: str) -> None:
    prepare(tmp_path / "odd")
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path / "odd"))


def test_a_damaged_weight_file_is_named(tmp_path: Path) -> None:
    save_model(FaceCycle(SMALL), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model\.safetensors is not the one that config\.json names"):
        load_model(str(tmp_path / "model"))
    edit_config(tmp_path / "model", lambda config: config.pop(WEIGHTS_HASH))  # as earlier versions wrote it
    with pytest.raises(ModelError, match=r"model\.safetensors: not a safetensors file"):
        load_model(str(tmp_path / "model"))


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (48, r"do not agree, first at '.*found .*expected 48"),
        (10_000_000, r"do not agree, first at '.*expected 10000000"),
        ("many", r"code_dim: found 'many', expected int"),
        (-3, r"code_dim: found -3"),
        (2.5, r"code_dim: found 2\.5"),
        (None, r"code_dim: found None"),
    ],
)
def test_sizes_that_are_not_the_weights_are_named_before_any_memory_is_taken(
    tmp_path: Path, size: object, message: str
) -> None:
    save_model(FaceCycle(SMALL), tmp_path / "model")
    edit_config(tmp_path / "model", lambda config: config["facecycle"].update(code_dim=size))
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path / "model"))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", '{"facecycle": 3}', '"facecycle"'])
def test_a_config_that_is_none_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    save_model(FaceCycle(SMALL), tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"^[^\n]*config\.json[^\n]*$"):
        load_model(str(tmp_path / "model"))


def test_a_stop_between_weights_and_config_is_noticed(tmp_path: Path) -> None:
    save_model(FaceCycle(SMALL), tmp_path / "model")
    before = (tmp_path / "model" / "config.json").read_bytes()
    save_model(FaceCycle(SMALL), tmp_path / "model")
    (tmp_path / "model" / "config.json").write_bytes(before)
    with pytest.raises(ModelError, match="was writing it interrupted"):
        load_model(str(tmp_path / "model"))


def test_vgg_weights_come_from_both_kinds_of_file(tmp_path: Path) -> None:
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
    shapes |= {12: (256, 256), 14: (256, 256), 16: (256, 256), 19: (512, 256)}
    weights = {f"features.{n}.weight": torch.randn(*shape, 3, 3).half() for n, shape in shapes.items()}
    weights |= {f"features.{n}.bias": torch.randn(shape[0]).half() for n, shape in shapes.items()}
    save_file(weights, tmp_path / "vgg.safetensors")
    torch.save(weights, tmp_path / "vgg.pth")
    a, b = load_vgg(tmp_path / "vgg.safetensors"), load_vgg(tmp_path / "vgg.pth")
    assert all(torch.equal(a[key], b[key]) for key in a)
    stem = VGG19("conv2_1")
    stem.load(a)
    (features,) = stem(torch.randn(1, 3, 64, 64), ("conv2_1",))
    assert features.shape == (1, 128, 32, 32)
    assert not any(p.requires_grad for p in stem.parameters())
    del weights["features.19.weight"]
    save_file(weights, tmp_path / "short.safetensors")
    with pytest.raises(ModelError, match=r"short\.safetensors: conv4_1 .* expected \(512, 256, 3, 3\)"):
        load_vgg(tmp_path / "short.safetensors")


def test_absent_vgg_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file of VGG-19 weights"):
        load_vgg(tmp_path / "vgg.pth")
