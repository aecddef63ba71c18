"""Training speed: images/s of a whole step (forward, backward, Adam) of both stages, per preset, recipe and precision.

    python benchmarks/train_step.py

The first row is the published network with the released code's losses, eager and in float32; the last column is the
speed relative to it, measured in the same run. Weights and pictures are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import time

import torch

from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig
from fcvideo.models.vgg import VGG19
from fcvideo.training.recipes import RECIPES
from fcvideo.training.stages import PERCEPTUAL_DEPTH, ExpressionStage, IdentityStage, Stage

ROWS = (  # preset, recipe, stage, bfloat16 and channels_last
    ("facecycle-64", "released", 1, False),
    ("facecycle-64", "default", 1, True),
    ("facecycle-64-small", "default", 1, False),
    ("facecycle-64-small", "default", 1, True),
    ("facecycle-64-small", "paper", 1, True),
    ("facecycle-64-small", "released", 1, True),
    ("facecycle-64-small", "default", 2, True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="Timed steps; the fastest counts.")
    arguments = parser.parse_args()
    print("| preset | recipe | stage | format | images/s | against the first |\n|---|---|---|---|---|---|")
    first = None
    for preset, recipe, number, is_fast in ROWS:
        seconds = time_step(preset, recipe, number, is_fast, arguments)
        first = first or seconds
        kind = "bfloat16, channels_last" if is_fast else "float32"
        speed = arguments.batch_size / seconds
        print(f"| {preset} | {recipe} | {number} | {kind} | {speed:.1f} | {first / seconds:.1f} |", flush=True)


def time_step(preset: str, recipe: str, number: int, is_fast: bool, arguments: argparse.Namespace) -> float:
    """Seconds of the fastest step."""
    torch.manual_seed(0)
    model, vgg, weights = FaceCycle(FaceCycleConfig.preset(preset)), VGG19(PERCEPTUAL_DEPTH), RECIPES[recipe]
    stage: Stage = (
        ExpressionStage(model, vgg, weights.expression) if number == 1 else IdentityStage(model, vgg, weights.identity)
    )
    layout = torch.channels_last if is_fast else torch.contiguous_format
    stage.to(arguments.device, memory_format=layout)  # type: ignore[call-overload]
    encoders, decoder = stage.enable()
    optimizer = torch.optim.Adam([*encoders, *decoder], lr=1e-5)
    images = torch.randn(arguments.batch_size, 3, 64, 64, device=arguments.device).contiguous(memory_format=layout)
    found = []
    for _ in range(arguments.steps + 1):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(arguments.device, torch.bfloat16, enabled=is_fast):
            total = stage(images)["total"]
        total.backward()
        optimizer.step()
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found[1:])


if __name__ == "__main__":
    main()
