"""Import of the FaceCycle authors' released checkpoint: five state dicts under their own names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fcvideo.errors import ModelError
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig

_ENCODER = {
    "conv1.0": "stage2.0.0",
    "conv1.2": "stage2.1.0",
    "layer1.0": "stage2.2.0",
    "layer1.2": "stage2.3",
    "layer1.3": "stage2.4.0",
    "layer2_1.0": "stage4.0.0",
    "layer2_1.2": "stage4.1",
    "layer2_1.3": "stage4.2.0",
    "resblock1": "stage4.3",
    "resblock2": "stage4.4",
    "layer2_2.0": "stage8.0.0",
    "layer2_2.2": "stage8.1.0",
    "layer3_1.0": "stage16.0.0",
    "layer3_1.2": "stage16.1.0",
    "layer3_2.0": "stage16.2.0",
    "layer3_2.2": "stage16.3.0",
    "expresscode.0": "head.0",
    "expresscode.2": "head.2",
}
_FLOW = {
    "motiongen1.0": "four.0",
    "motiongen1.3": "four.3",
    "motiongen1.4": "four.4.0",
    "motiongen2.1": "eight.1.0",
    "motiongen2.3": "eight.2",
    "motiongen2.4": "eight.3.0",
    "resblock1": "eight.4",
    "resblock2": "eight.5",
    "toflow4.1": "sixteen.1.0",
    "toflow4.2": "to_flow",
}
_EXPRESSION = {
    "noise_encoding1.0": "paint_fine.layers.0.0",
    "noise_encoding1.2": "paint_fine.layers.1.0",
    "noise_encoding0.0": "paint_coarse.layers.0.0",
    "noise_encoding0.2": "paint_coarse.layers.1.0",
    "redconv.0": "reduce.0",
    "cnn": "blocks",
    "up.0": "up1.0.0",
    "up.2": "up1.1.0",
    "up2.0": "up2.0.0",
    "up2.2": "up2.1.0",
    "torgb": "to_rgb",
}
_IDENTITY = {
    "denorm.beta": "de_identity.shift",
    "denorm.gamma": "de_identity.scale",
    "renorm.beta": "re_identity.shift",
    "renorm.gamma": "re_identity.scale",
    "cnn": "blocks",
    "cnn3.0": "blocks.6",
    "up.0": "up.0.0",
    "up.2": "up.1.0",
    "up.4": "up.2.0",
    "torgb": "to_rgb",
}
_STEM = {f"conv{n}.0": f"convolutions.conv{n}" for n in ("1_1", "1_2", "2_1", "2_2", "3_1")}

# the authors' name: (ours, names inside)
_NETWORKS = {
    "codegeneration": ("expression_encoder", _ENCODER),
    "idcodegen": ("identity_encoder", _ENCODER),
    "exptoflow": ("flow_decoder", _FLOW),
    "Swap_Generator": ("expression_decoder", _EXPRESSION),
    "Swap_Norm": ("identity_decoder", _IDENTITY),
}


def import_authors_checkpoint(file: Path) -> FaceCycle:
    """A `facecycle-64` with the released weights, from the authors' .tar (a torch save; read without pickle's code).

    Errors: ModelError that names the file and the first network or tensor that is missing or of another shape.
    """
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file") from None
    except Exception:  # torch raises OSError, RuntimeError or an UnpicklingError, by the damage
        raise ModelError(f"{file}: not a torch checkpoint of plain tensors") from None
    if missing := [name for name in _NETWORKS if name not in checkpoint]:
        raise ModelError(f"{file}: no {missing[0]!r}; expected the state dicts {', '.join(_NETWORKS)}")
    state: dict[str, Tensor] = {}
    for theirs, (ours, names) in _NETWORKS.items():
        for key, value in checkpoint[theirs].items():
            state[_translate(file, theirs, key.removeprefix("module."), ours, names)] = value
    model = FaceCycle(FaceCycleConfig.preset("facecycle-64"))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{file}: {' '.join(str(error).split())}") from None
    return model.eval()


def _translate(file: Path, network: str, key: str, ours: str, names: dict[str, str]) -> str:
    for table, prefix in ((names, ours), (_STEM, "stem")):
        # longest first: 'cnn3.0' before 'cnn'
        for theirs in sorted(table, key=len, reverse=True):
            if key.startswith(theirs + "."):
                return f"{prefix}.{table[theirs]}{key[len(theirs) :]}"
    raise ModelError(f"{file}: {network} has a tensor {key!r} that FaceCycle does not")
