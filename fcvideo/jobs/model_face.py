"""The mean face of a trained model, from the clips that it was trained on, beside its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fcvideo.atomic import written_atomically
from fcvideo.clips.store import ClipStore
from fcvideo.evaluation.reconstruction import ClipPictures
from fcvideo.faces.crop import Framing
from fcvideo.models.store import MEAN_FACE, load_config
from fcvideo.rendering.mean_face import mean_face

NUM_CLIPS = 2000  # looked at, spread over all


def write_mean_face(store: ClipStore, model: Path) -> bool:
    """Lays faces of the store on each other, one of each clip, into a model's folder; False where they are too few.

    Ready crops are taken to be as wide as the published ones, as in training.
    """
    config = load_config(str(model))
    framing = Framing.of(config)
    stored = store.metadata.get("framing", {}).get("side_factor", Framing().side_factor)
    face = mean_face(_crops(ClipPictures(store, framing, stored)))
    if face is None:
        return False
    with written_atomically(model / MEAN_FACE) as unfinished, unfinished.open("wb") as file:
        Image.fromarray(face).save(file, "PNG", optimize=True)
    return True


def _crops(pictures: ClipPictures) -> Iterator[np.ndarray]:
    _, first = np.unique(pictures.clips, return_index=True)
    for index in first[:: -(-len(first) // NUM_CLIPS)].tolist():
        yield np.array(pictures.image(index))
