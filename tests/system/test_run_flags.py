"""Each flag of ``docker run`` has an effect that can be seen, or says why not; see also test_limits.py."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from boxship.linux import cgroup
from harness.engine import Engine
from harness.run_flags import CASES, ELSEWHERE, UNOBSERVED, Case, page, split

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
# All cases by the docker CLI, the first one of each flag by ours too.
RUNS = [
    *(("docker", case) for case in CASES),
    *(("boxship", case) for i, case in enumerate(CASES) if case.flag not in [other.flag for other in CASES[:i]]),
]


@pytest.fixture(scope="module", autouse=True)
def clean_parent() -> object:
    """Remove the cgroups that ``--cgroup-parent`` made; Docker leaves them too."""
    yield
    for directory in Path("/sys/fs/cgroup").glob("**/boxship-flags"):
        directory.rmdir()


def test_every_flag_of_the_docker_cli_is_covered_or_explained() -> None:
    help_text = subprocess.run(["docker", "run", "--help"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", help_text, re.MULTILINE))
    known = {case.flag for case in CASES} | set(ELSEWHERE) | set(UNOBSERVED)
    assert (flags - known, known - flags) == (set(), set())


def test_the_page_of_flags_is_current() -> None:
    assert (ROOT / "docs/run-flags.md").read_text() == page()


def test_tests_of_flags_elsewhere_exist() -> None:
    assert all(f"def {name}(" in (ROOT / file).read_text() for _, file, name in ELSEWHERE.values())


@pytest.mark.row(*sorted({case.row for case in CASES if case.row}))
@pytest.mark.parametrize(("program", "case"), RUNS, ids=[f"{program}-{case.id}" for program, case in RUNS])
def test_a_flag_takes_effect(program: str, case: Case, engine: Engine, tmp_path: Path) -> None:
    cli = engine.docker if program == "docker" else engine.boxship
    if case.version and case.version != cgroup.version():
        pytest.skip(f"observed in a file of cgroup v{case.version}")
    for name, content in case.files:
        (tmp_path / name).write_text(content)

    def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return cli(*(word.replace("@", str(tmp_path), 1) for word in words), **options)

    for words in case.before:
        run(*split(words))
    last = not case.after
    given = {"input": case.input} if case.input is not None else {}
    result = run("run", *split(case.words), "busybox", *split(case.command), check=False, **given)
    for i, words in enumerate(case.after):
        assert result.returncode == 0, result.stderr
        last = i + 1 == len(case.after)
        result = run(*split(words), check=False)
    assert last
    host = {
        f"{{host:{kind}}}": re.escape(os.readlink(f"/proc/self/ns/{kind}")) for kind in ("ipc", "pid", "user", "uts")
    }
    assert re.search(host.get(case.expected, case.expected), result.stdout + result.stderr, re.MULTILINE), result
    assert case.code in (None, result.returncode), result


@pytest.mark.row("ISO-03")
@pytest.mark.parametrize("instead", ["ln -s / /dev/shm", "mkdir /dev/shm; mount -t proc proc /dev/shm"])
def test_a_container_shares_its_dev_shm_and_nothing_that_it_put_there(engine: Engine, instead: str) -> None:
    script = f"umount /dev/shm && rmdir /dev/shm && {instead}; touch /ready; sleep 1000"
    words = ("--cap-add", "SYS_ADMIN", "--security-opt", "systempaths=unconfined", "--ipc", "shareable")
    engine.docker("run", "-d", "--name", "donor", *words, "busybox", "sh", "-c", script)
    engine.docker("exec", "donor", "sh", "-c", "until [ -e /ready ]; do sleep 0.01; done")
    refused = engine.docker("run", "--rm", "--ipc", "container:donor", "busybox", "ls", "/dev/shm", check=False)
    assert (refused.returncode, refused.stdout) == (125, "")
    assert 'error mounting "/dev/shm" to rootfs' in refused.stderr


@pytest.mark.row("RUN-42")
def test_an_init_passes_signals_on_and_reaps(engine: Engine) -> None:
    script = "(sleep 0.01 &); trap 'echo term; exit 9' TERM; touch /ready; while :; do sleep 0.02; done"
    engine.docker("run", "-d", "--name", "it", "--init", "busybox", "sh", "-c", script)
    engine.docker("exec", "it", "sh", "-c", "until [ -e /ready ]; do sleep 0.01; done")
    engine.docker("exec", "it", "sh", "-c", "while ps -o stat,ppid | grep -q '^Z.* 1$'; do sleep 0.01; done")
    engine.docker("stop", "it")
    assert engine.docker("logs", "it").stdout == "term\n"
    assert engine.docker("wait", "it").stdout == "9\n"


@pytest.mark.row("RUN-34")
def test_update_refuses_what_does_not_go_together_in_dockers_words(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--name", "it", "busybox", "sleep", "1000").stdout.strip()
    prefix = f"Error response from daemon: Cannot update container {id}: "
    for words, text in (
        (
            "--memory 64m",
            f"{prefix}Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        ("--memory 1m --memory-swap 2m", "Error response from daemon: Minimum memory limit allowed is 6MB"),
        ("--cpuset-cpus 7777", "Error response from daemon: Requested CPUs are not available - requested 7777"),
    ):
        assert engine.docker("update", *words.split(), "it", check=False).stderr.startswith(text)
    engine.docker("update", "--cpu-period", "2000", "it")
    refused = engine.docker("update", "--cpus", "1", "it", check=False).stderr
    assert (
        refused.strip()
        == f"{prefix}Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
    )
