"""Features side by side: the model's codes and maps, hand-made rivals and other networks, each from the same crops."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from skimage.feature import hog, local_binary_pattern
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fcvideo.errors import InputError, ModelError, SettingsError, describe_error
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig, normalize
from fcvideo.models.store import CONFIG, WEIGHTS
from fcvideo.training.moco import SAVED

MODEL_FEATURES = ("expression", "identity", "map", "identity-map")
FEATURES = (*MODEL_FEATURES, "hog", "lbp", "pixels", "imagenet", "moco", "moco-map")

# As in survey/encoding.py: maps of more faces do not stay in a CPU core's cache.
CPU_BATCH_SIZE = 16


class Pictures(Protocol):
    """What `extract` needs of a data set."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image: ...


class Feature(Protocol):
    """One way to turn face crops, resized to `side_px`, into vectors."""

    @property
    def name(self) -> str: ...

    @property
    def side_px(self) -> int: ...

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB (B, side_px, side_px, 3) to float32 (B, D)."""
        ...


class HoG:
    """Histograms of oriented gradients (B, 3240): 10 orientations, 10 px cells, blocks of 2 x 2 (paper, section 4)."""

    name, side_px = "hog", 100

    def __call__(self, images: np.ndarray) -> np.ndarray:
        found = [hog(face, orientations=10, pixels_per_cell=(10, 10), cells_per_block=(2, 2)) for face in grey(images)]
        return np.stack(found).astype(np.float32)


class LBP:
    """Local binary patterns (B, 1450): shares of the 58 uniform codes of 8 neighbours in 5 x 5 cells of 20 px."""

    name, side_px = "lbp", 100

    def __init__(self) -> None:
        cell = np.arange(100) // 20
        self._first_bin = 59 * (5 * cell[:, None] + cell[None])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.stack([self._histograms(face) for face in grey(images)])

    def _histograms(self, face: np.ndarray) -> np.ndarray:
        codes = local_binary_pattern(face, P=8, R=1, method="nri_uniform").astype(np.int64)
        counts = np.bincount((self._first_bin + codes).ravel(), minlength=25 * 59).reshape(25, 59)
        return (counts[:, :58] / 400).astype(np.float32).ravel()  # the 59th: every code that is not uniform


class Pixels:
    """Grey pixels in [0, 1] (B, 2304)."""

    name, side_px = "pixels", 48

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return grey(images).reshape(len(images), -1).astype(np.float32) / 255


HAND_MADE: dict[str, Callable[[], Feature]] = {"hog": HoG, "lbp": LBP, "pixels": Pixels}


class EncoderPass:
    """Encoders that several features read, run once for each batch."""

    def __init__(
        self, encoders: Mapping[str, nn.Module], encode: Callable[[Tensor], Mapping[str, Tensor]], device: torch.device
    ) -> None:
        """`encode` gives the codes of normalized pictures by the names of `encoders`, running each of those once."""
        self._encoders, self._encode, self._device = encoders, encode, device
        self._images: np.ndarray | None = None
        self._found: dict[str, np.ndarray] = {}

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 (B, S, S, 3) to each encoder's code (B, code_dim), and 'NAME-map' (B, map_width x 16)."""
        if images is not self._images:
            self._images, self._found = images, self._run(images)
        return self._found

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        seen: dict[str, Tensor] = {}

        def watch(name: str, encoder: nn.Module) -> RemovableHandle:
            head = encoder.get_submodule("head")  # its input is what `feature_map` returns
            return head.register_forward_pre_hook(lambda _, inputs: seen.update({f"{name}-map": inputs[0]}))

        def encode(normalized: Tensor) -> dict[str, Tensor]:
            codes = self._encode(normalized)
            return {name: found.flatten(1) for name, found in {**codes, **seen}.items()}

        watches = [watch(name, encoder) for name, encoder in self._encoders.items()]
        try:
            return _run_network(encode, images, self._device)
        finally:
            for handle in watches:
                handle.remove()


def model_pass(model: FaceCycle, device: torch.device) -> EncoderPass:
    """Both encoders, for what they read of the stem is computed once for both."""
    model.to(device).to(memory_format=torch.channels_last).eval()

    def encode(normalized: Tensor) -> dict[str, Tensor]:
        codes = model.embed(normalized, cycle_error=False)
        return {"expression": codes.expression, "identity": codes.identity}

    encoders = {"expression": model.expression_encoder, "identity": model.identity_encoder}
    return EncoderPass(encoders, encode, device)


def moco_pass(model: FaceCycle, device: torch.device) -> EncoderPass:
    model.to(device).to(memory_format=torch.channels_last).eval()
    encoders = {"moco": model.expression_encoder}
    return EncoderPass(encoders, lambda normalized: {"moco": model.encode_expression(normalized)}, device)


class EncoderFeature:
    """A code, or the flattened last map (which the authors probed), of a trained encoder."""

    def __init__(self, name: str, side_px: int, encoder_pass: EncoderPass) -> None:
        self.name, self.side_px = name, side_px
        self._pass, self._output = encoder_pass, "expression-map" if name == "map" else name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._pass(images)[self._output]


class ImageNet:
    """ResNet-18's pooled features (B, 512), trained to tell ImageNet's classes apart."""

    name, side_px = "imagenet", 224

    def __init__(self, weights: Path | None, device: torch.device) -> None:
        from torchvision.models import resnet18

        network = resnet18()
        state = _resnet_weights(weights)
        try:
            network.load_state_dict(state)
        except (RuntimeError, AttributeError, TypeError):
            raise InputError(f"{weights}: found other weights, expected those of torchvision's resnet18") from None
        network.fc = nn.Identity()
        self._network = network.to(device).to(memory_format=torch.channels_last).eval()
        self._device = device

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return _run_network(lambda faces: {"pooled": self._network(faces)}, images, self._device)["pooled"]


def make_features(
    names: Sequence[str],
    model: FaceCycle | None,
    device: torch.device | str,
    *,
    imagenet_weights: Path | None = None,
    moco: Path | None = None,
) -> list[Feature]:
    """The named ones of FEATURES, in this order, each once; their networks are moved to `device`.

    `moco` is a folder as `load_moco` reads it; resnet18's weights come from a file or torchvision's download.
    Errors: SettingsError for an unknown name or a feature without its network, InputError and ModelError for bad files.
    """
    place = torch.device(device)

    @functools.cache
    def model_encoders() -> tuple[EncoderPass, int]:
        if model is None:
            raise SettingsError(f"features: {', '.join(MODEL_FEATURES)} need a model; found none")
        return model_pass(model, place), model.config.image_side

    @functools.cache
    def moco_encoder() -> tuple[EncoderPass, int]:
        if moco is None:
            raise SettingsError("features: moco needs a folder made by fcvideo train --model moco; found none")
        found = load_moco(moco)
        return moco_pass(found, place), found.config.image_side

    def make(name: str) -> Feature:
        if name in HAND_MADE:
            return HAND_MADE[name]()
        if name == "imagenet":
            return ImageNet(imagenet_weights, place)
        if name not in FEATURES:
            raise SettingsError(f"features: found {name!r}, expected some of {', '.join(FEATURES)}")
        encoder_pass, side_px = model_encoders() if name in MODEL_FEATURES else moco_encoder()
        return EncoderFeature(name, side_px, encoder_pass)

    return [make(name) for name in dict.fromkeys(names)]


def extract(
    pictures: Pictures,
    features: Sequence[Feature],
    batch_size: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Every feature of every picture, by name, float32 (N, D); each picture is decoded once and not kept.

    `on_progress` is told how many pictures are done. Errors: InputError for a picture that cannot be read (or none at
    all), ModelError for values that are not finite.
    """
    if len(pictures) == 0:
        raise InputError("found no pictures, expected at least one")
    sides = sorted({feature.side_px for feature in features})
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(pictures), batch_size):
        rows = range(start, min(start + batch_size, len(pictures)))
        batches = {side: np.empty((len(rows), side, side, 3), np.uint8) for side in sides}
        for slot, index in enumerate(rows):
            picture = pictures.image(index)
            for side in sides:
                batches[side][slot] = resize(picture, side)
        for feature in features:
            vectors = feature(batches[feature.side_px])
            if not np.isfinite(vectors).all():
                raise ModelError(
                    f"{feature.name}: found values that are not finite, expected numbers; a damaged model?"
                )
            if feature.name not in found:
                found[feature.name] = np.empty((len(pictures), vectors.shape[1]), np.float32)
            found[feature.name][rows.start : rows.stop] = vectors
        if on_progress is not None:
            on_progress(rows.stop)
    return found


def resize(picture: Image.Image, side_px: int) -> np.ndarray:
    """The whole picture as uint8 (side_px, side_px, 3), by the filters of `faces.crop`."""
    if picture.size == (side_px, side_px):
        return np.asarray(picture)
    resampling = Image.Resampling.HAMMING if side_px < picture.width else Image.Resampling.BILINEAR
    return np.asarray(picture.resize((side_px, side_px), resampling))


def grey(images: np.ndarray) -> np.ndarray:
    """uint8 RGB (..., 3) to luma (...), to the digit as Pillow does it."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)


def load_moco(folder: Path) -> FaceCycle:
    """The model whose E_exp MoCo trained, on the CPU in evaluation mode; its other networks are random.

    config.json has {"moco": FaceCycle's sizes}; model.safetensors has the weights of E_exp and of the stem.
    Errors: ModelError.
    """
    from safetensors.torch import load_file

    try:
        model = FaceCycle(FaceCycleConfig.from_dict(json.loads((folder / CONFIG).read_text())["moco"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{folder / CONFIG}: found no MoCo encoder's sizes ({describe_error(error)})") from None
    try:
        weights = {key: value.float() for key, value in load_file(folder / WEIGHTS).items()}
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except Exception:  # safetensors raises its own error, which is a plain Exception, and torch's text is long
        missing, unexpected = ["stem."], []
    if unexpected or any(name.startswith(SAVED) for name in missing):
        raise ModelError(f"{folder / WEIGHTS}: found no weights for the encoder that {CONFIG} describes")
    return model.eval()


def _run_network(
    network: Callable[[Tensor], Mapping[str, Tensor]], images: np.ndarray, device: torch.device
) -> dict[str, np.ndarray]:
    """uint8 (B, S, S, 3) through a network of ImageNet-normalized pictures, in pieces that suit the device."""
    size = CPU_BATCH_SIZE if device.type == "cpu" else len(images)
    pieces = []
    with torch.inference_mode():
        for part in torch.from_numpy(images).split(size):
            found = network(normalize(part.to(device).permute(0, 3, 1, 2)))
            pieces.append({name: values.float().cpu().numpy() for name, values in found.items()})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _resnet_weights(file: Path | None) -> Any:
    from torchvision.models import ResNet18_Weights

    if file is None:
        try:
            return ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except OSError as error:  # urllib's errors are OSErrors
            raise InputError(
                f"no ImageNet weights: torchvision could not download resnet18's ({error}); "
                "give a file with --imagenet-weights FILE"
            ) from None
    if not file.is_file():
        raise InputError(f"{file}: no such file of resnet18 weights")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # each reader has exceptions of its own, and long advice
        raise InputError(f"{file}: found no weights, expected a safetensors file or a torch state dict") from None
