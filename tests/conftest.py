"""What all tests share: the feature rows that they prove."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

UNPROVEN = 10  # exit status, beside pytest's own
FEATURES = Path(__file__).parent.parent / "docs" / "features.toml"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_PROVEN] = set()


_PROVEN = pytest.StashKey[set[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if report.when == "call" and not report.skipped:
        for mark in item.iter_markers("row"):
            item.config.stash[_PROVEN].update(mark.args)
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known = tomllib.loads(FEATURES.read_text())
    for item in items:
        for mark in item.iter_markers("row"):
            unknown = [id for id in mark.args if id not in known]
            if unknown:
                raise pytest.UsageError(f"{item.nodeid}: no such feature row: {', '.join(unknown)}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a whole run in which a row is called done and no test that ran carries it (a failed one fails the run itself)."""
    if not os.environ.get("BOXSHIP_CHECK_ROWS") or exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return
    rows = tomllib.loads(FEATURES.read_text())
    unproven = sorted(
        id for id, row in rows.items() if row["status"] == "done" and id not in session.config.stash[_PROVEN]
    )
    if unproven:
        print(f"\nfeature rows called done that no passing test carries: {', '.join(unproven)}")
        session.exitstatus = UNPROVEN
