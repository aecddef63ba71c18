"""What a plan runs on: how many GPUs, and this process or Ray."""

from __future__ import annotations

from contextlib import ExitStack

from fcvideo.config import EmbedSettings, RenderSettings
from fcvideo.errors import SettingsError
from fcvideo.running.cluster import cluster_gpus, ray_cluster
from fcvideo.running.devices import count_cores, resolve_gpus

# Ray needs 15 to 25 s to start, and pays where there is more to use than this process can: GPUs, or many cores.
SMALL_PLAN_SECONDS, SMALL_PLAN_SECONDS_ON_ONE_DEVICE = 600.0, 7200.0
MANY_CORES = 8


def claim_gpus(settings: EmbedSettings | RenderSettings, stack: ExitStack) -> int:
    """Number of GPUs to use. Joins the cluster of `--address`, for as long as `stack` lasts. Errors: UsageError's."""
    if settings.address is not None:
        if settings.engine == "local":
            raise SettingsError("--address and --engine local exclude each other")
        stack.enter_context(ray_cluster(settings.address))
        return resolve_gpus(settings.gpus, cluster_gpus(), f"the cluster at {settings.address}")
    gpus = resolve_gpus(settings.gpus)
    if settings.engine == "local" and gpus > 1:
        if settings.gpus is not None:
            raise SettingsError(f"--gpus {gpus}: --engine local uses one; go on with --gpus 1, or --engine ray")
        return 1
    return gpus


def choose_engine(settings: EmbedSettings | RenderSettings, gpus: int, seconds: float) -> str:
    """'local' or 'ray', for a plan of so many seconds of video."""
    if settings.engine != "auto":
        return settings.engine
    has_many = gpus > 1 and seconds > SMALL_PLAN_SECONDS
    is_large = seconds > SMALL_PLAN_SECONDS_ON_ONE_DEVICE and count_cores() >= MANY_CORES
    return "ray" if settings.address is not None or has_many or is_large else "local"


def choose_precision(settings: EmbedSettings | RenderSettings, gpus: int) -> str:
    """Number format of the networks: float32, bfloat16 or float16."""
    if settings.precision != "auto":
        return settings.precision
    return "float16" if gpus else "float32"
