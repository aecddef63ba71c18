"""Ray for the length of a job: started on this machine, or joined at an address."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fcvideo.errors import ResourceError
from fcvideo.running.devices import count_cores

KNOCK_SECONDS = 10.0


@contextmanager
def ray_cluster(address: str | None, num_gpus: int = 0) -> Iterator[None]:
    """The cluster at `address`, or one of this process's own with `num_gpus`; one that is joined already is kept.

    Errors: ResourceError where no cluster answers.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            _knock(address)
            ray.init(address, **quiet)
        else:
            ray.init("local", num_cpus=max(2, count_cores()), num_gpus=num_gpus, include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError) as error:  # ConnectionError is an OSError
        line = " ".join(str(error).split())
        raise ResourceError(f"--address {address}: no Ray cluster there ({line})") from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fails at once where Ray would try for two minutes. Errors: OSError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def cluster_gpus() -> int:
    """GPUs of all machines of the cluster that this process has joined."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def cluster_cores() -> int:
    import ray

    return int(ray.cluster_resources().get("CPU", 1))
