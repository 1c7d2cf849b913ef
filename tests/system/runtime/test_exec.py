"""Further processes in a running container."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.system

Start = Callable[..., Any]


@pytest.fixture
def execute(start: Start, spec: dict[str, Any]) -> Callable[..., Any]:
    """Run ``args`` in a sleeping container; returns (what became of it, the output)."""

    def run(*args: str, **process: Any) -> tuple[dict[str, Any], list[str]]:
        document = {**spec["process"], "args": list(args), **process}
        result = start("sleep", "1000", execs=[document])
        assert result.error is None
        return result.execs[0], result.lines

    return run


def test_the_status_is_returned(execute: Callable[..., Any]) -> None:
    assert execute("sh", "-c", "exit 42")[0]["status"] == 42


def test_it_is_in_the_namespaces_of_init(start: Start, spec: dict[str, Any]) -> None:
    script = "for n in net ipc uts pid cgroup mnt; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n; done"
    document = {**spec["process"], "args": ["sh", "-c", script + "; hostname; pwd"], "cwd": "/etc"}
    result = start("sleep", "1000", execs=[document])
    # the cgroup namespace is entered too, from a cgroup that is the same
    assert result.lines == [spec["hostname"], "/etc"]


def test_credentials_are_its_own(execute: Callable[..., Any]) -> None:
    process = {
        "user": {"uid": 33, "gid": 33, "additionalGids": [44]},
        "capabilities": {"bounding": ["CAP_KILL"]},
        "noNewPrivileges": True,
        "env": ["PATH=/bin"],
    }
    _, lines = execute(
        "sh", "-c", "id -u; id -G; grep -E 'CapBnd|CapEff|NoNewPrivs' /proc/self/status; echo $HOME", **process
    )
    assert lines == [
        *("33", "33 44", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000020", "NoNewPrivs:\t1", "/var/www"),
    ]


@pytest.mark.row("RUN-46")
@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH', 127),
        (["/etc"], 'exec: "/etc": permission denied', 126),
        (["/proc/self/exe"], 'exec: "/proc/self/exe": permission denied', 126),
    ],
)
def test_a_command_that_cannot_run_fails_in_runcs_words(
    execute: Callable[..., Any], args: list[str], message: str, code: int
) -> None:
    answer, _ = execute(*args)
    assert (answer["error"], answer["code"]) == (f"unable to start container process: {message}", code)


@pytest.mark.parametrize("number", [*range(3, 16), 250])
def test_r2_workdir_fd(execute: Callable[..., Any], number: int) -> None:
    answer, _ = execute("true", cwd=f"/proc/self/fd/{number}")
    assert answer["error"].startswith(
        f'unable to start container process: chdir to cwd ("/proc/self/fd/{number}") set in config.json failed'
    )


def test_r2_no_descriptor_but_stdio_is_open(execute: Callable[..., Any]) -> None:
    _, lines = execute("ls", "/proc/self/fd")
    assert lines == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


def test_a_terminal_is_of_the_containers_own_devpts(execute: Callable[..., Any]) -> None:
    answer, _ = execute("sh", "-c", "tty; stty size", terminal=True, consoleSize={"height": 20, "width": 70})
    assert answer["console"].splitlines() == ["/dev/pts/0", "20 70"]


def test_many_at_once_leave_nothing(start: Start, spec: dict[str, Any]) -> None:
    document = {**spec["process"], "args": ["true"]}
    result = start("sleep", "1000", execs=[document] * 30)
    assert [answer["status"] for answer in result.execs] == [0] * 30


def test_a_container_that_has_ended_cannot_be_entered(start: Start, spec: dict[str, Any]) -> None:
    document = {**spec["process"], "args": ["true"]}
    result = start("true", execs=[document], until_refused=True)
    assert result.execs[-1]["error"] == "unable to start container process: cannot exec in a stopped container"


def test_a_container_that_ends_under_an_exec_is_called_stopped(start: Start, spec: dict[str, Any]) -> None:
    # In a pid namespace of its own the end of init would end the exec'd process as well, before it could say a word.
    spec["linux"]["namespaces"] = [row for row in spec["linux"]["namespaces"] if row["type"] != "pid"]
    document = {**spec["process"], "args": ["true"]}
    result = start("sleep", "1000", execs=[document], ends_under_execs=True)
    assert result.execs[0]["error"] == "unable to start container process: cannot exec in a stopped container"


def test_r11_the_filter_is_loaded(start: Start, spec: dict[str, Any]) -> None:
    from boxship.runtime import seccomp

    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    code = seccomp.compile(profile)
    document = {**spec["process"], "args": ["sh", "-c", "mkdir /tmp/x; grep Seccomp: /proc/self/status"]}
    for no_new_privs in (False, True):
        document["noNewPrivileges"] = spec["process"]["noNewPrivileges"] = no_new_privs
        result = start("sleep", "1000", execs=[document], seccomp=code)
        assert result.lines == ["mkdir: can't create directory '/tmp/x': Operation not permitted", "Seccomp:\t2"]
