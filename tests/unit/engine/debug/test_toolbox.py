"""The toolbox on disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from boxship.base.errors import SystemFailure
from boxship.engine.debug import toolbox
from boxship.images import elf


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A static program that lists two commands, whatever it is asked."""
    path = tmp_path / "busybox"
    path.write_bytes(elf.printer(b"busybox\nls\nsh\n../evil\n", "amd64" if os.uname().machine == "x86_64" else "arm64"))
    path.chmod(0o755)
    return path


def test_it_has_a_link_for_each_command_and_is_made_once(tmp_path: Path, program: Path) -> None:
    (tmp_path / "toolbox/making-cut-off").mkdir(parents=True)
    directory = Path(toolbox.ensure(str(tmp_path), ("/nowhere", str(program))))
    assert sorted(path.name for path in (directory / "bin").iterdir()) == ["busybox", "ls", "sh"]
    assert os.readlink(directory / "bin/sh") == "busybox"
    assert [path.name for path in (tmp_path / "toolbox").iterdir()] == [directory.name]
    made = directory.stat().st_mtime_ns
    assert toolbox.ensure(str(tmp_path), (str(program),)) == str(directory)
    assert directory.stat().st_mtime_ns == made


def test_a_program_that_needs_a_loader_is_no_toolbox(tmp_path: Path, program: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "short").write_bytes(program.read_bytes()[:40])
    assert toolbox.is_static(str(program))
    assert not any(toolbox.is_static(str(tmp_path / name)) for name in ("script", "short", "missing"))
    assert not toolbox.is_static(os.path.realpath(sys.executable))
    with pytest.raises(SystemFailure, match="install busybox-static"):
        toolbox.ensure(str(tmp_path), (str(tmp_path / "script"),))
