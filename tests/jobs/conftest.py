"""One Ray for all tests of the jobs: it needs seconds to start. And the model that they embed with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fcvideo.running.cluster import ray_cluster


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    """Jobs find Ray running, and leave it so."""
    with ray_cluster(None):
        yield


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> Path:
    return tiny_model
