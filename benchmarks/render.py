"""How fast `fcvideo reenact` is, beside what its parts alone would allow.

python benchmarks/render.py [--copies 4] [--seconds 15] [--model FOLDER] [--clip VIDEO]

The command runs twice, over half of the clips and over all; the difference gives frames/s and CPU time per frame
without the start. Every video is read twice: to find its faces, and to render them.

The limit: decoding, detection, codes, generation and writing run alone, a process on every core. On the CPU they
share the cores, so their times per frame add up, decoding's twice. Generation and codes on a GPU work beside the cores.

Where other programs run too, compare CPU times; the column `cores` shows how many each line was given.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from embed import FRAMES_PER_SECOND, HERE, Speed, make_copies, measure, measure_stage, show
from process_tree import Run, run_watched

from fcvideo.config import DEFAULT_MODEL

STAGES = ("decode", "detect", "codes", "generate", "write")
ON_GPU = ("codes", "generate")
TIMES = {"decode": 2}  # that a stage runs per frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=HERE.parent / "examples" / "astronaut.mp4", help="what is shown")
    parser.add_argument("--copies", type=int, default=4, help="clips, an even number of them")
    parser.add_argument("--seconds", type=int, default=15, help="length of each")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fcvideo-benchmark-") as folder:
        clips = make_copies(settings.clip, Path(folder) / "clips", settings.copies, settings.seconds)
        print(f"{len(clips)} clips of {settings.seconds} s, 720p, squares of 256 px", flush=True)
        num_frames = settings.seconds * FRAMES_PER_SECOND
        speeds = measure({"fcvideo reenact": reenact}, clips, num_frames, settings.model, Path(folder))
        stages = {stage: measure_stage(stage, clips[0], settings.model) for stage in STAGES}
    show(speeds | {f"{stage} alone": speed for stage, speed in stages.items()} | {"limit": limit(stages)})


def reenact(clips: list[Path], model: str, workdir: Path) -> Run:
    out = workdir / "reenacted"
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "fcvideo",
        "reenact",
        *(part for clip in clips for part in ("--source", str(clip))),
    ]
    options = ["--target", str(clips[0]), "--target-time", "0", "--compose", "crop", "--progress", "none"]
    return run_watched([*command, *options, "--out", f"{out}/", "--model", model])


def limit(stages: dict[str, Speed]) -> Speed:
    seconds = {name: TIMES.get(name, 1) / speed.frames_per_second for name, speed in stages.items()}
    if torch.cuda.is_available():
        on_gpu = sum(seconds.pop(name) for name in ON_GPU)
        rate = 1 / max(on_gpu, sum(seconds.values()))
    else:
        rate = 1 / sum(seconds.values())
    return Speed(rate, sum(TIMES.get(name, 1) * speed.cpu_ms for name, speed in stages.items()))


if __name__ == "__main__":
    main()
