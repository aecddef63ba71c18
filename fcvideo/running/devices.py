"""Which GPUs there are, and what to say when more are asked for."""

from __future__ import annotations

import os

from fcvideo.errors import ResourceError


def resolve_gpus(requested: int | None, available: int | None = None, place: str = "this machine") -> int:
    """Number of GPUs to use: all of the `available` (by default this machine's) unless told otherwise.

    Errors: ResourceError, with what there is and how to go on.
    """
    if requested == 0:
        return 0
    if available is None:
        available = count_gpus()
    if requested is None:
        return available
    if requested > available:
        there = {0: "no GPU", 1: "1 GPU"}.get(available, f"{available} GPUs")
        onward = "--gpus 0 (CPU)" if available == 0 else f"--gpus {available}, or --gpus 0 (CPU)"
        raise ResourceError(f"--gpus {requested}: {place} has {there}; go on with {onward}")
    return requested


def count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def count_cores() -> int:
    """CPU cores that this process may use; fewer than the machine's in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
