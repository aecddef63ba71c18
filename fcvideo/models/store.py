"""Model folders: config.json, model.safetensors and the model card. The one file here that touches the disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fcvideo.atomic import make_folder, written_atomically
from fcvideo.errors import ModelError, describe_error, first_line
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig

PRETRAINED = Path(__file__).parent / "pretrained"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
WEIGHTS_HASH = "weights_sha256"  # in the config
MEAN_FACE = "mean_face.png"  # a file that a model may have: what rendering shows as its mean face


@dataclass(frozen=True)
class ModelRef:
    """One model as a run uses it: found once, so that all of the run means the same files."""

    name: str  # as the user gave it
    folder: Path  # absolute, on this machine
    config: FaceCycleConfig
    hash: str  # as `model_hash` has it
    mean_face_hash: str | None  # of the picture beside the weights, which `hash` leaves out: it changes no code
    revision: str | None  # the commit of a hub's model; None for a folder of the user's or a shipped one


def open_model(name: str) -> ModelRef:
    """Finds a model and reads all but its weights' values. Errors: ModelError."""
    folder = locate_model(name).absolute()
    face = folder / MEAN_FACE
    return ModelRef(
        name=name,
        folder=folder,
        config=load_config(str(folder)),
        hash=model_hash(str(folder)),
        mean_face_hash=file_hash(face) if face.is_file() else None,
        revision=folder.name if folder.parent.name == "snapshots" else None,
    )


def locate_model(name: str) -> Path:
    """The folder of a shipped model, of a path, or of a hub name (downloaded once, then cached).

    A hub name may be pinned to a branch, tag or commit: 'someone/model@revision'.
    """
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
        repository, _, revision = name.partition("@")
        return Path(
            snapshot_download(
                repository, revision=revision or None, allow_patterns=[CONFIG, WEIGHTS, MEAN_FACE, "README.md"]
            )
        )
    except Exception as error:  # the hub's client raises its own, the network's and the disk's errors
        raise ModelError(f"{name}: no such folder, and the hub did not give it ({first_line(error)})") from None


def load_config(name: str) -> FaceCycleConfig:
    """The sizes and the framing of a model, once its weights are known to be those. Errors: ModelError."""
    from safetensors import safe_open

    folder = locate_model(name)
    found = _read_config(folder)
    try:
        config = FaceCycleConfig.from_dict(found["facecycle"])
    except KeyError:
        raise ModelError(f"{folder / CONFIG}: found no 'facecycle', expected the model's sizes under it") from None
    expected = found.get(WEIGHTS_HASH)  # models of earlier versions have none
    try:
        if expected is not None and file_hash(folder / WEIGHTS) != expected:
            raise ModelError(f"{folder}: {WEIGHTS} is not the one that {CONFIG} names; was writing it interrupted?")
        with safe_open(folder / WEIGHTS, "pt") as weights:
            shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({describe_error(error)})") from None
    except ModelError:
        raise
    except Exception as error:  # safetensors raises its own error, which is a plain Exception
        raise ModelError(f"{folder / WEIGHTS}: not a safetensors file ({error})") from None
    check_sizes(folder, FaceCycle, config, shapes)
    return config


def _read_config(folder: Path) -> dict[str, Any]:
    """Errors: ModelError."""
    try:
        found = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder / CONFIG}: cannot be read ({describe_error(error)})") from None
    if not isinstance(found, dict):
        raise ModelError(f"{folder / CONFIG}: found {type(found).__name__}, expected an object with the model's sizes")
    return found


def load_model(name: str) -> FaceCycle:
    """The model in evaluation mode, on the CPU, in float32. Errors: ModelError."""
    from safetensors.torch import load_file

    folder, model = locate_model(name), FaceCycle(load_config(name))
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()})
    return model.eval()


def check_sizes(
    folder: Path, network: Callable[[Any], nn.Module], config: Any, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Whether weights of these shapes are those of a network of these sizes, of which nothing is made in memory.

    Errors: ModelError, which names the first that is not.
    """
    try:
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in network(config).state_dict().items()}
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(f"{folder / CONFIG}: found sizes that no network has ({describe_error(error)})") from None
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            raise ModelError(
                f"{folder}: weights and {CONFIG} do not agree, first at {name!r}: found {_shape(shapes.get(name))}, "
                f"expected {_shape(expected.get(name))}; was writing it interrupted?"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else " x ".join(map(str, shape)) or "one number"


def save_model(
    model: FaceCycle, folder: Path, *, half: bool = True, kind: str = "facecycle", parts: tuple[str, ...] = ("",)
) -> None:
    """Writes config.json and model.safetensors, each whole or not at all; half precision by default.

    The config, written last, names the weights that belong to it, so that a stop between the two is noticed.
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
    config: dict[str, Any] = {kind: dataclasses.asdict(model.config)}
    data = save(state)
    config |= {WEIGHTS_HASH: hashlib.sha256(data).hexdigest()}
    with written_atomically(folder / WEIGHTS) as unfinished:
        unfinished.write_bytes(data)
    with written_atomically(folder / CONFIG) as unfinished:
        unfinished.write_text(json.dumps(config, indent=2) + "\n")


def model_hash(name: str) -> str:
    """sha256 of config and weights: what makes two embeddings comparable."""
    folder = locate_model(name)
    return file_hash(folder / CONFIG, folder / WEIGHTS)


def file_hash(*paths: Path) -> str:
    """sha256 of the files' content, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
