"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "covermap",
    deadline=None,  # tests make no claim about time
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("covermap")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real imagery, or a skip with the reason."""
    path = Path(
        os.environ.get("COVERMAP_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
    )
    if not path.is_dir():
        pytest.skip(f"no real imagery: {path} is absent (set COVERMAP_DATA)")
    return path.resolve()
