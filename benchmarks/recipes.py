"""Which recipe trains better on little data: each for the same number of images, judged on people it has not seen.

    python benchmarks/recipes.py --data clips.parquet --dev dev.parquet --vgg vgg19.safetensors --images 10000

`--dev` is a table of ready crops with columns person, clip, jpeg, yaw_deg, pitch_deg, roll_deg (null where unknown).
Reported, after stage 1 alone: SSIM and L1 of dev faces rebuilt from their pair's neutral face, beside the rival that
just shows the pair's picture; and the error of head pose by ridge regression on the expression code, over 5 folds of
clips, beside the mean pose.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from fcvideo.clips import augment
from fcvideo.clips.pairs import decode_jpeg, steps_per_epoch
from fcvideo.clips.store import ClipStore
from fcvideo.config import TrainSettings
from fcvideo.models.facecycle import FaceCycle, denormalize, normalize_unit
from fcvideo.models.store import load_model
from fcvideo.training.loop import Rank, run_rank
from fcvideo.training.losses import ssim
from fcvideo.training.recipes import RECIPES

POSE = ("yaw_deg", "pitch_deg", "roll_deg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Clips to train on.")
    parser.add_argument("--dev", required=True, help="Crops of other people to judge on.")
    parser.add_argument("--vgg", help="VGG-19 weights from this file instead of torchvision's download.")
    parser.add_argument("--images", type=int, default=10_000, help="Images that each recipe trains on.")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--model", help="Judge this model folder instead of training.")
    arguments = parser.parse_args()
    if not (arguments.data or arguments.model):
        parser.error("expected --data to train on, or --model to judge")
    torch.manual_seed(0)
    print("| recipe | rebuilt SSIM | L1 | yaw | pitch | roll | images/s |\n|---|---|---|---|---|---|---|")
    if arguments.model:
        found = judge(load_model(arguments.model), arguments.dev)
        print(row("(rival)", found["rival"] | {"pose": found["mean_pose"]}))
        print(row(arguments.model, found))
        print(f"\nROC AUC of 'the same person?' between clips, cosine of identity codes: {found['same_person']:.3f}")
        return
    for number, recipe in enumerate(arguments.recipes):
        with tempfile.TemporaryDirectory() as folder:
            seconds = train(arguments, recipe, Path(folder))
            found = judge(load_model(f"{folder}/model"), arguments.dev)
            if not number:
                print(row("(rival)", found["rival"] | {"pose": found["mean_pose"]}))
            print(row(recipe, found, arguments.images / seconds), flush=True)


def train(arguments: argparse.Namespace, recipe: str, folder: Path) -> float:
    """Stage 1 into `folder`; returns the seconds it took."""
    store = ClipStore(arguments.data)
    steps = arguments.images // arguments.batch_size
    settings = TrainSettings(
        data=arguments.data,
        out=str(folder),
        recipe=recipe,  # type: ignore[arg-type]
        vgg=arguments.vgg,
        batch_size=arguments.batch_size,
        epochs_stage1=steps / steps_per_epoch(len(store), arguments.batch_size // 2),
        epochs_stage2=0,
        picture_steps=0,
    )
    started = time.monotonic()
    run_rank(settings, store, folder, Rank())
    return time.monotonic() - started


@torch.no_grad()
def judge(model: FaceCycle, dev: str) -> dict[str, Any]:
    table = pq.read_table(dev).to_pydict()
    images = load_images(model, table["jpeg"])
    codes = torch.cat([model.encode_expression(part) for part in images.split(64)])
    first, second = pairs_of(table["clip"])
    backward = torch.cat([model.flows(part)[1] for part in codes[first].split(64)])
    neutral = torch.cat(
        [model.neutral_face(x, model.flows(c)[0]) for x, c in zip(images.split(64), codes.split(64), strict=True)]
    )
    rebuilt = torch.cat(
        [model.re_express(n, b) for n, b in zip(neutral[second].split(64), backward.split(64), strict=True)]
    )
    target = denormalize(images[first])

    def likeness(found: torch.Tensor) -> dict[str, float]:
        found = denormalize(found)
        return {"ssim": ssim(found, target).mean().item(), "l1": (found - target).abs().mean().item()}

    pose = np.array([table[name] for name in POSE], dtype=np.float64).T
    known = ~np.isnan(pose).any(axis=1)
    folds = fold_of(np.array(table["clip"])[known])
    x = codes.numpy()[known]
    found = likeness(rebuilt) | {"pose": ridge_errors(x, pose[known], folds)}
    identity = torch.cat([model.encode_identity(part) for part in images.split(64)]).numpy()
    found |= {"same_person": same_person_auc(identity, np.array(table["person"]), np.array(table["clip"]))}
    return found | {"rival": likeness(images[second]), "mean_pose": ridge_errors(x * 0, pose[known], folds)}


def load_images(model: FaceCycle, jpegs: list[bytes]) -> torch.Tensor:
    """Normalized pictures, in the model's own framing."""
    config = model.config
    side = config.image_side * 3 // 2
    stored = torch.from_numpy(np.stack([decode_jpeg(jpeg, side) for jpeg in jpegs]))
    framing = augment.framing_affine(config.framing_side_factor, 1.45, config.framing_center)[:2]
    affine = torch.from_numpy(framing).float().expand(len(stored), 2, 3)
    color = torch.eye(3, 4).expand(len(stored), 3, 4)
    parts = zip(stored.split(256), affine.split(256), color.split(256), strict=True)
    return normalize_unit(torch.cat([augment.apply(*part, config.image_side) for part in parts]))


def pairs_of(clips: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Each picture with the one half its clip away."""
    first, second = [], []
    names = np.array(clips)
    for name in np.unique(names):
        members = np.flatnonzero(names == name)
        if len(members) > 1:
            first.append(members)
            second.append(np.roll(members, len(members) // 2))
    return np.concatenate(first), np.concatenate(second)


def fold_of(clips: np.ndarray, num_folds: int = 5) -> np.ndarray:
    return np.unique(clips, return_inverse=True)[1] % num_folds


def ridge_errors(x: np.ndarray, y: np.ndarray, folds: np.ndarray, strength: float = 10.0) -> dict[str, float]:
    """Mean absolute error per column of y, each fold predicted from the others."""
    found = np.empty_like(y)
    for fold in np.unique(folds):
        train_rows = folds != fold
        mean, deviation = x[train_rows].mean(0), x[train_rows].std(0) + 1e-6
        a, b = (x[train_rows] - mean) / deviation, (x[~train_rows] - mean) / deviation
        weights = np.linalg.solve(
            a.T @ a + strength * np.eye(a.shape[1]), a.T @ (y[train_rows] - y[train_rows].mean(0))
        )
        found[~train_rows] = b @ weights + y[train_rows].mean(0)
    return dict(zip(POSE, np.abs(found - y).mean(0).tolist(), strict=True))


def same_person_auc(codes: np.ndarray, persons: np.ndarray, clips: np.ndarray) -> float:
    """Chance that two clips of one person are more alike than two of two persons; a clip is its codes' mean."""
    names, first, member = np.unique(clips, return_index=True, return_inverse=True)
    means = np.stack([codes[member == i].mean(0) for i in range(len(names))])
    means -= means.mean(0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    alike, person = means @ means.T, persons[first]
    upper = np.triu_indices(len(names), 1)
    same = (person[:, None] == person[None])[upper]
    ranks = np.argsort(np.argsort(alike[upper])) + 1
    num_same, num_other = same.sum(), (~same).sum()
    return float((ranks[same].sum() - num_same * (num_same + 1) / 2) / (num_same * num_other))


def row(name: str, found: dict[str, Any], images_per_second: float | None = None) -> str:
    speed = f"{images_per_second:.0f}" if images_per_second else ""
    pose = " | ".join(f"{found['pose'][angle]:.1f}" for angle in POSE)
    return f"| {name} | {found['ssim']:.3f} | {found['l1']:.3f} | {pose} | {speed} |"


if __name__ == "__main__":
    main()
