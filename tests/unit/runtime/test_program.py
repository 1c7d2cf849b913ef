from pathlib import Path

import pytest

from boxship.runtime import program
from boxship.runtime.failure import RuntimeFailure


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "text").write_text("")
    (tmp_path / "text").chmod(0o644)
    return tmp_path


def test_a_name_is_looked_up_in_path(directory: Path) -> None:
    assert program.find("tool", f"/nonexistent:{directory}") == f"{directory}/tool"


@pytest.mark.row("RUN-46")
def test_a_name_that_is_nowhere_is_127(directory: Path) -> None:
    with pytest.raises(RuntimeFailure) as caught:
        program.find("nosuch", str(directory))
    assert caught.value.message == 'exec: "nosuch": executable file not found in $PATH'
    assert caught.value.code == 127


@pytest.mark.row("RUN-46")
def test_a_path_that_is_missing_is_127() -> None:
    with pytest.raises(RuntimeFailure) as caught:
        program.find("/nosuch", "")
    assert caught.value.message == 'exec: "/nosuch": stat /nosuch: no such file or directory'
    assert caught.value.code == 127


@pytest.mark.row("RUN-46")
def test_a_directory_is_126() -> None:
    with pytest.raises(RuntimeFailure) as caught:
        program.find("/etc", "")
    assert caught.value.message == 'exec: "/etc": permission denied'
    assert caught.value.code == 126


def test_a_file_without_execute_permission_is_126_by_path_and_skipped_by_name(directory: Path) -> None:
    with pytest.raises(RuntimeFailure) as caught:
        program.find(f"{directory}/text", "")
    assert caught.value.code == 126
    with pytest.raises(RuntimeFailure) as caught:
        program.find("text", str(directory))
    assert caught.value.code == 127


@pytest.mark.parametrize("path", ["/proc/self/exe", "/proc/self/root/bin/sh"])
def test_r1_what_a_magic_link_names_is_not_executed(path: str) -> None:
    with pytest.raises(RuntimeFailure) as caught:
        program.find(path, "")
    assert caught.value.message == f'exec: "{path}": permission denied'
