"""Model folders: config.json, model.safetensors and the model card. The one file here that touches the disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import torch

from fcvideo.atomic import make_folder, written_atomically
from fcvideo.errors import ModelError
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig

PRETRAINED = Path(__file__).parent / "pretrained"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
MEAN_FACE = "mean_face.png"  # a file that a model may have: what rendering shows as its mean face


def locate_model(name: str) -> Path:
    """The folder of a shipped model, of a path, or of a hub name (downloaded once, then cached)."""
    for folder in (Path(name), PRETRAINED / name):
        if (folder / CONFIG).is_file():
            if not (folder / WEIGHTS).is_file():
                raise ModelError(f"{folder}: has {CONFIG} but no {WEIGHTS}")
            return folder
    if Path(name).exists():
        raise ModelError(f"{name}: not a model folder; expected {CONFIG} and {WEIGHTS} in it")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    shipped = ", ".join(sorted(p.name for p in PRETRAINED.glob("*/"))) or "none"
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"{name}: no such model; shipped are {shipped}, or give a model folder or a hub name")
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, MEAN_FACE, "README.md"]))
    except Exception as error:  # the hub's client raises its own, the network's and the disk's errors
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{name}: no such folder, and the hub did not give it ({first_line})") from None


def load_config(name: str) -> FaceCycleConfig:
    """The sizes and the framing of a model, without its weights. Errors: ModelError."""
    folder = locate_model(name)
    try:
        return FaceCycleConfig.from_dict(json.loads((folder / CONFIG).read_text())["facecycle"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG}: cannot be read ({type(error).__name__}: {error})") from None


def load_model(name: str) -> FaceCycle:
    """The model in evaluation mode, on the CPU, in float32. Errors: ModelError."""
    from safetensors.torch import load_file

    folder, config = locate_model(name), load_config(name)
    try:
        weights = load_file(folder / WEIGHTS)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({type(error).__name__}: {error})") from None
    except Exception as error:  # safetensors raises its own error, which is a plain Exception
        raise ModelError(f"{folder / WEIGHTS}: not a safetensors file ({error})") from None
    model = FaceCycle(config)
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    if missing or unexpected:
        odd = (missing or unexpected)[0]
        raise ModelError(f"{folder}: weights and {CONFIG} do not agree, first at {odd!r}")
    return model.eval()


def save_model(
    model: FaceCycle, folder: Path, *, half: bool = True, kind: str = "facecycle", parts: tuple[str, ...] = ("",)
) -> None:
    """Writes config.json and model.safetensors, each whole or not at all; half precision by default.

    `kind` is the sizes' key in config.json; of the weights, those whose names begin with one of `parts` are kept.
    """
    from safetensors.torch import save

    make_folder(folder)
    dtype = torch.float16 if half else torch.float32
    state = {
        key: value.detach().to("cpu", dtype).contiguous()
        for key, value in model.state_dict().items()
        if key.startswith(parts)
    }
    config = {kind: dataclasses.asdict(model.config)}
    with written_atomically(folder / CONFIG) as unfinished:
        unfinished.write_text(json.dumps(config, indent=2) + "\n")
    with written_atomically(folder / WEIGHTS) as unfinished:
        unfinished.write_bytes(save(state))


def model_hash(name: str) -> str:
    """sha256 of config and weights: what makes two embeddings comparable."""
    folder = locate_model(name)
    digest = hashlib.sha256((folder / CONFIG).read_bytes())
    with (folder / WEIGHTS).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
