"""One Ray for all tests of the jobs: it needs seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fcvideo.jobs.cluster import ray_cluster


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    """Jobs find Ray running, and leave it so."""
    with ray_cluster(None):
        yield
