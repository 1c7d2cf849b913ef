"""The base image of all Dockerfiles here, on Boxship and on the real dockerd."""

from __future__ import annotations

import pytest

from harness.dockerd import Dockerd
from harness.engine import Engine


@pytest.fixture(scope="module")
def engine(engine: Engine) -> Engine:
    """The module's engine with the image ``base``."""
    engine.docker("tag", "busybox", "base")
    return engine


@pytest.fixture(scope="module")
def dockerd(dockerd: Dockerd) -> Dockerd:
    """The peer with the image ``base``."""
    dockerd.docker("tag", "busybox", "base")
    return dockerd
