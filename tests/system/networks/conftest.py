"""Scenarios of the networks' laboratory, and what they are made of."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from boxship.spec.docker.container import PortBinding
from harness.network_lab import Scenario, publish, run_in, run_isolated, spawn


@pytest.fixture
def bindings() -> Callable[..., dict[str, list[PortBinding] | None]]:
    return publish


@pytest.fixture
def in_namespace() -> Callable[[str | None, Callable[[], object]], Any]:
    return run_in


@pytest.fixture
def serving() -> Callable[[str | None, Callable[[Callable[[], None]], None]], int]:
    return spawn


@pytest.fixture
def isolated() -> Callable[[Scenario], None]:
    """Run a scenario in a child with its own network and mount namespaces; its assertion fails this test."""
    root = tempfile.mkdtemp(prefix="boxship-networks-")

    def run(scenario: Scenario) -> None:
        report = run_isolated(root, scenario)
        if report:
            pytest.fail(report, pytrace=False)

    yield run
    shutil.rmtree(root)
