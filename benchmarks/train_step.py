"""Training speed: images/s of a whole step (forward, backward, Adam) of both stages, per preset, recipe and precision.

    python benchmarks/train_step.py

The first row is a plain rewrite of the released code's stage-1 step (released_step.py), the second and third are
fcvideo's step with the same losses and sizes; drawing pictures and finding landmarks is in none of them. Beside the
speed relative to the first row stands what a step consists of: its arithmetic, and how many operators it calls. Each
of those starts a kernel on a GPU, where that limits the speed of small batches. Every round takes one step of each row
in turn, so that other load on the machine meets all alike. Weights and pictures are random: speed does not depend on
them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from released_step import released_losses
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig
from fcvideo.models.vgg import VGG19
from fcvideo.training.landmarks import NUM_LANDMARKS
from fcvideo.training.recipes import RECIPES
from fcvideo.training.stages import PERCEPTUAL_DEPTH, ExpressionStage, IdentityStage, Stage

PLAIN = "plain rewrite of the released step"
ROWS = (  # preset, recipe, stage, in bfloat16
    ("facecycle-64", PLAIN, 1, False),
    ("facecycle-64", "released", 1, False),
    ("facecycle-64", "released", 1, True),
    ("facecycle-64", "default", 1, True),
    ("facecycle-64-small", "default", 1, False),
    ("facecycle-64-small", "default", 1, True),
    ("facecycle-64-small", "paper", 1, True),
    ("facecycle-64-small", "released", 1, True),
    ("facecycle-64-small", "default", 2, True),
)
Row = tuple[str, str, int, bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=16, help="Images whose pictures are drawn, per step.")
    parser.add_argument("--rounds", type=int, default=5, help="Timed steps of each row.")
    parser.add_argument("--rows", type=int, default=len(ROWS), help="The first rows only.")
    arguments = parser.parse_args()
    rows: tuple[Row, ...] = ROWS[: arguments.rows]
    steps = [make_step(row, arguments.device, arguments.batch_size) for row in rows]
    contents = [count(step) for step in steps]
    rounds = [[seconds(step, arguments.device) for step in steps] for _ in range(arguments.rounds + 1)]
    found = list(zip(*rounds[1:], strict=True))  # the first round warms up
    speeds = "images/s, median | fastest | median against the first"
    print(f"| preset | recipe | stage | format | {speeds} | GFLOP | operators |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (preset, recipe, number, in_bfloat16), own, (flop, operators) in zip(rows, found, contents, strict=True):
        kind = "bfloat16" if in_bfloat16 else "float32"
        median, fastest = (arguments.batch_size / value for value in (statistics.median(own), min(own)))
        ratio = statistics.median(first / second for first, second in zip(found[0], own, strict=True))
        speed = f"{median:.2f} | {fastest:.2f} | {ratio:.2f}"
        print(f"| {preset} | {recipe} | {number} | {kind} | {speed} | {flop / 1e9:.0f} | {operators} |")


def make_step(row: Row, device: str, batch_size: int) -> Callable[[], None]:
    """One whole training step."""
    preset, recipe, number, in_bfloat16 = row
    torch.manual_seed(0)
    model, vgg = FaceCycle(FaceCycleConfig.preset(preset)), VGG19(PERCEPTUAL_DEPTH)
    weights = RECIPES["released" if recipe == PLAIN else recipe]
    schedule = (weights.stage1, weights.stage2)[number - 1]
    stage: Stage = (
        ExpressionStage(model, vgg, weights.expression, schedule.code_batches)
        if number == 1
        else IdentityStage(model, vgg, weights.identity, schedule.code_batches)
    )
    layout = torch.contiguous_format if recipe == PLAIN else torch.channels_last  # as the training loop has it
    stage.to(device, memory_format=layout)  # type: ignore[call-overload]
    encoders, decoder = stage.enable()
    optimizer = torch.optim.Adam([*encoders, *decoder], lr=1e-5)
    num_images = batch_size * schedule.code_batches
    images = torch.randn(num_images, 3, 64, 64, device=device).contiguous(memory_format=layout)
    persons = torch.arange(num_images // 2, device=device).repeat(2)
    landmarks = torch.rand(num_images, NUM_LANDMARKS, 2, device=device) if stage.reads_landmarks else None

    def losses() -> dict[str, Tensor]:
        if recipe == PLAIN:
            return released_losses(model, vgg, images)
        with torch.autocast(device, torch.bfloat16, enabled=in_bfloat16):
            return stage(images, persons, landmarks)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        losses()["total"].backward()
        optimizer.step()

    return step


class OperatorCounter(TorchDispatchMode):
    """How many operators are called that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def count(step: Callable[[], None]) -> tuple[int, int]:
    """Floating-point operations and operators of a step, forward, backward and update."""
    step()  # makes the optimizer's state
    with FlopCounterMode(display=False) as flop, OperatorCounter() as operators:
        step()
    return flop.get_total_flops(), operators.count


def seconds(step: Callable[[], None], device: str) -> float:
    started = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
