"""The program behind --init: which one is taken, and what our own does."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from boxship.base.errors import SystemFailure
from boxship.engine import init

MACHINE = platform.machine()
BUILD = Path(__file__).parents[3] / "scripts" / "build-init"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if init.program(MACHINE) is None:
        pytest.skip(f"there is no init program for {MACHINE}")
    monkeypatch.setattr(init, "_HOST_PATHS", (str(tmp_path / "tini"),))
    return init.find("", str(tmp_path / "init"))


def run(program: str, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_the_configured_program_comes_first_and_must_be_one(tmp_path: Path) -> None:
    assert init.find("/bin/sh", str(tmp_path)) == "/bin/sh"
    with pytest.raises(SystemFailure, match="the init program /etc/passwd of init-path cannot be executed"):
        init.find("/etc/passwd", str(tmp_path))


def test_the_hosts_program_comes_before_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "_HOST_PATHS", ("/bin/nosuch", "/bin/sh"))
    assert init.find("", str(tmp_path)) == "/bin/sh"


def test_our_own_is_written_once_and_again_when_damaged(own: str) -> None:
    directory = str(Path(own).parent)
    first = Path(own).stat().st_ino
    assert init.find("", directory) == own
    assert Path(own).stat().st_ino == first
    Path(own).write_bytes(b"broken")
    assert init.find("", directory) == own
    assert Path(own).read_bytes() == init.program(MACHINE)
    assert [path.name for path in Path(directory).iterdir()] == [Path(own).name]


def test_a_machine_without_a_program_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "_HOST_PATHS", ())
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(SystemFailure, match="no init program found for --init: there is none of Boxship for vax"):
        init.find("", str(tmp_path))


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--", "sh", "-c", "exit 7"], 7, ""),
        (["--", "sh", "-c", "kill -9 $$"], 137, ""),
        (["--", "nosuch"], 127, "docker-init: exec nosuch failed: No such file or directory\n"),
        (["--", ""], 127, "docker-init: exec  failed: No such file or directory\n"),
        (["--", "/etc/passwd"], 126, "docker-init: exec /etc/passwd failed: Permission denied\n"),
        (["--"], 1, "usage: docker-init -- COMMAND [ARG...]\n"),
    ],
)
def test_our_own_ends_as_its_child_does(own: str, words: list[str], code: int, error: str) -> None:
    result = run(own, *words)
    assert (result.returncode, result.stderr) == (code, error)


def test_our_own_looks_in_the_path_and_gives_scripts_without_a_first_line_to_the_shell(
    own: str, tmp_path: Path
) -> None:
    script = tmp_path / "tool"
    script.write_text('echo "$0 $1"\n')
    script.chmod(0o755)
    result = run(own, "--", "tool", "word", env={"PATH": f"/nowhere::{tmp_path}:/bin"}, cwd="/")
    assert (result.returncode, result.stdout) == (0, f"{script} word\n")


def test_our_own_passes_signals_on(own: str) -> None:
    script = "trap 'echo got; exit 3' USR1; echo up; while :; do sleep 0.1; done"
    with subprocess.Popen([own, "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(10)
        assert process.stdout.readline() == "got\n"
        assert process.wait(60) == 3


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_programs_are_small_and_what_the_source_says(machine: str, tmp_path: Path) -> None:
    program = init.program(machine)
    assert program is not None
    assert len(program) < 20 << 10
    assert program[:4] == b"\x7fELF"
    compiler = shutil.which(f"{machine}-linux-gnu-gcc")
    if compiler is None or not run(compiler, "-dumpfullversion").stdout.startswith("12.2."):
        pytest.skip(f"the compiler that made the program for {machine}, gcc 12.2, is not here")
    built = run(str(BUILD), str(tmp_path))
    if not (tmp_path / f"docker-init.{machine}").exists():
        pytest.skip(f"cannot be compiled here: {built.stderr.strip()}")
    assert (tmp_path / f"docker-init.{machine}").read_bytes() == program


def test_the_program_of_the_other_machine_works_too(tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("qemu-user-static is not installed")
    program = tmp_path / "init"
    program.write_bytes(init.program("aarch64") or b"")
    program.chmod(0o755)
    assert run(emulator, str(program), "--", "sh", "-c", "exit 7").returncode == 7
    assert run(emulator, str(program), "--", "nosuch").returncode == 127
