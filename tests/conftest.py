"""Fixtures for all tests: the shared development material, where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real videos and faces beside the checkout; not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no development material at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def media(shared: Path) -> Path:
    return shared / "media"
