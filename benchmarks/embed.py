"""How fast `fcvideo embed` is, beside the same with Ray Data as one would write it first, and beside what is possible.

python benchmarks/embed.py [--copies 4] [--seconds 30] [--model FOLDER] [--clip VIDEO] [--only embed,ray,stages,memory]

Every pipeline runs twice, over half of the clips and over all. The difference gives frames/s and CPU time per frame
without the start; what remains of the longer run is the start.

The limit: decoding, detection and encoding run alone, a process on every core, and give frames/s of the whole machine.
They share the same cores, so their times per frame add up: 1 / limit = 1 / decode + 1 / detect + 1 / encode. An encoder
on a GPU works beside the cores: limit = min(1 / (1 / decode + 1 / detect), encode).

Where other programs run too, frames/s say little: the column `cores` shows how many each line was given. CPU times
are less disturbed; without a GPU the limit holds for them as well.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from clips import make_clip, repeat_clip
from process_tree import Run, run_watched

from fcvideo.config import DEFAULT_MODEL

HERE = Path(__file__).parent
PARTS = ("embed", "ray", "stages", "memory")
STAGES = ("decode", "detect", "encode")
SIZE, FRAMES_PER_SECOND = (1280, 720), 30
SMALL_SIZE, FEW_FRAMES_PER_SECOND, MINUTES = (320, 240), 6, (1, 5, 20)
MB = 1e6


@dataclass(frozen=True)
class Speed:
    frames_per_second: float
    cpu_ms: float  # per frame
    peak_bytes: int | None = None
    start_seconds: float | None = None
    whole_seconds: float | None = None


Pipeline = Callable[[list[Path], str, Path], Run]


def main() -> None:
    settings = parse()
    workdir = settings.workdir or Path(tempfile.mkdtemp(prefix="fcvideo-benchmark-"))
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        run(settings, workdir)
    finally:
        if settings.workdir is None:
            shutil.rmtree(workdir)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=HERE.parent / "examples" / "astronaut.mp4", help="what is shown")
    parser.add_argument("--copies", type=int, default=4, help="clips, an even number of them")
    parser.add_argument("--seconds", type=int, default=30, help="length of each")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--workdir", type=Path, help="keeps clips and tables here")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    settings = parser.parse_args()
    settings.only = settings.only.split(",")
    if settings.copies < 2 or settings.copies % 2 or not set(settings.only) <= set(PARTS):
        parser.error("--copies takes an even number, --only the parts' names")
    return settings


def run(settings: argparse.Namespace, workdir: Path) -> None:
    speeds: dict[str, Speed] = {}
    if set(settings.only) & {"embed", "ray", "stages"}:
        clips = make_copies(settings.clip, workdir / "clips", settings.copies, settings.seconds)
        bits = clips[0].stat().st_size * 8 / settings.seconds
        print(f"{len(clips)} clips of {settings.seconds} s, 720p, {bits / 1e6:.1f} Mbit/s", flush=True)
        num_frames = settings.seconds * FRAMES_PER_SECOND
        pipelines = {"fcvideo embed": embed, "Ray, written first": ray_first}
        wanted = [name for part, name in zip(("embed", "ray"), pipelines, strict=True) if part in settings.only]
        speeds |= measure({name: pipelines[name] for name in wanted}, clips, num_frames, settings.model, workdir)
        if "stages" in settings.only:
            stages = {stage: measure_stage(stage, clips[0], settings.model) for stage in STAGES}
            speeds |= {f"{stage} alone": speed for stage, speed in stages.items()} | {"limit": limit(stages)}
        show(speeds)
    if "memory" in settings.only:
        measure_memory(settings, workdir)


def make_copies(source: Path, folder: Path, copies: int, seconds: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    clips = [folder / f"{source.stem}-{seconds}s-{index:02}.mp4" for index in range(copies)]
    if not clips[0].exists():
        make_clip(source, clips[0], SIZE, seconds * FRAMES_PER_SECOND, FRAMES_PER_SECOND)
    for clip in clips[1:]:
        shutil.copyfile(clips[0], clip)
    return clips


def embed(clips: list[Path], model: str, workdir: Path) -> Run:
    out = workdir / "embeddings.parquet"
    command = [sys.executable, "-m", "fcvideo", "embed", *map(str, clips)]
    return run_watched([*command, "--out", str(out), "--model", model, "--overwrite", "--progress", "none"])


def ray_first(clips: list[Path], model: str, workdir: Path) -> Run:
    out = workdir / "ray-first"
    shutil.rmtree(out, ignore_errors=True)
    return run_watched([sys.executable, str(HERE / "ray_first.py"), model, str(out), *map(str, clips)])


def measure(
    pipelines: dict[str, Pipeline], clips: list[Path], num_frames: int, model: str, workdir: Path
) -> dict[str, Speed]:
    """In turns, so that whatever else the machine does meets all of them."""
    num_half = len(clips) // 2
    halves = {name: run(clips[:num_half], model, workdir) for name, run in pipelines.items()}
    wholes = {name: run(clips, model, workdir) for name, run in pipelines.items()}
    more_frames = (len(clips) - num_half) * num_frames
    speeds = {}
    for name, whole in wholes.items():
        seconds = max(whole.seconds - halves[name].seconds, 1e-3)
        speeds[name] = Speed(
            frames_per_second=more_frames / seconds,
            cpu_ms=(whole.cpu_seconds - halves[name].cpu_seconds) / more_frames * 1e3,
            peak_bytes=whole.peak_bytes,
            start_seconds=whole.seconds - len(clips) * num_frames * seconds / more_frames,
            whole_seconds=whole.seconds,
        )
    return speeds


def measure_stage(stage: str, clip: Path, model: str) -> Speed:
    """The stage in as many processes as there are cores, all at once; on a GPU in one."""
    num_processes = (
        1 if stage in ("encode", "codes", "generate") and torch.cuda.is_available() else len(os.sched_getaffinity(0))
    )
    command = [sys.executable, str(HERE / "stages.py"), stage, str(clip), model]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(num_processes)]
    found = [json.loads(process.communicate()[0]) for process in processes]
    return Speed(
        frames_per_second=sum(one["frames"] / one["seconds"] for one in found),
        cpu_ms=sum(one["cpu_seconds"] for one in found) / sum(one["frames"] for one in found) * 1e3,
    )


def limit(stages: dict[str, Speed]) -> Speed:
    decode, detect, encode = (stages[stage] for stage in STAGES)
    reading = 1 / (1 / decode.frames_per_second + 1 / detect.frames_per_second)
    if torch.cuda.is_available():
        rate = min(reading, encode.frames_per_second)
    else:
        rate = 1 / (1 / reading + 1 / encode.frames_per_second)
    return Speed(rate, decode.cpu_ms + detect.cpu_ms + encode.cpu_ms)


def show(speeds: dict[str, Speed]) -> None:
    columns = ("frames/s", "of limit", "CPU ms/fr.", "of limit", "cores", "peak MB", "start s", "whole s")
    print(" " * 20 + "".join(f"{column:>11}" for column in columns))
    best = speeds.get("limit")
    for name, speed in speeds.items():
        of_rate = f"{speed.frames_per_second / best.frames_per_second:.0%}" if best else "-"
        of_cpu = f"{best.cpu_ms / speed.cpu_ms:.0%}" if best else "-"
        peak = f"{speed.peak_bytes / MB:.0f}" if speed.peak_bytes else "-"
        start, whole = (f"{s:.1f}" if s is not None else "-" for s in (speed.start_seconds, speed.whole_seconds))
        cores = f"{speed.frames_per_second * speed.cpu_ms / 1e3:.2f}"
        values = (f"{speed.frames_per_second:.1f}", of_rate, f"{speed.cpu_ms:.1f}", of_cpu, cores, peak, start, whole)
        print(f"{name:20}" + "".join(f"{value:>11}" for value in values))
    if {"fcvideo embed", "Ray, written first"} <= speeds.keys():
        ours, first = speeds["fcvideo embed"], speeds["Ray, written first"]
        rates, times = ours.frames_per_second / first.frames_per_second, first.cpu_ms / ours.cpu_ms
        print(f"embed is ahead of Ray written first by {rates:.2f}x in frames/s, {times:.2f}x in CPU time")


def measure_memory(settings: argparse.Namespace, workdir: Path) -> None:
    """A minute of small pictures, and the same repeated."""
    minute, many = workdir / "minute.mp4", workdir / "minutes.mp4"
    make_clip(settings.clip, minute, SMALL_SIZE, 60 * FEW_FRAMES_PER_SECOND, FEW_FRAMES_PER_SECOND)
    for minutes in MINUTES:
        repeat_clip(minute, many, minutes)
        taken = embed([many], settings.model, workdir)
        frames = json.loads(taken.output)["frames"]
        print(
            f"embed of {minutes:2} min: peak {taken.peak_bytes / MB:.0f} MB, {frames} frames, {taken.seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
