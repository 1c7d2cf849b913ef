"""A registry for the tests of the specification: ours, or the one that BOXSHIP_REGISTRY_URL names."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from harness.registry_server import Client, RegistryServer


@pytest.fixture(scope="package")
def registry() -> Iterator[Client]:
    """A client of the registry under test; BOXSHIP_REGISTRY_URL and BOXSHIP_REGISTRY_AUTHORIZATION name another."""
    url = os.environ.get("BOXSHIP_REGISTRY_URL")
    if url:
        yield Client(url, authorization=os.environ.get("BOXSHIP_REGISTRY_AUTHORIZATION", ""))
        return
    server = RegistryServer()
    try:
        yield server.start().client()
    finally:
        server.close()


@pytest.fixture
def repository() -> str:
    """A repository of the test's own."""
    return f"conformance/{os.urandom(6).hex()}"
