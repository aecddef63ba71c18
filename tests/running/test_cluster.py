from __future__ import annotations

import socket
import time

import pytest

from fcvideo.errors import ResourceError
from fcvideo.running import cluster
from fcvideo.running.cluster import ray_cluster


def test_an_address_without_a_cluster_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # another test's Ray may be up
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(ResourceError, match=rf"--address {address}: no Ray cluster there"), ray_cluster(address):
        pass
    assert time.monotonic() - started < cluster.KNOCK_SECONDS
