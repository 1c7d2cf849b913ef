"""Starting: exit statuses, errors, credentials, limits, what the program finds."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

Shell = Callable[..., Any]


@pytest.mark.row("RUN-07")
@pytest.mark.parametrize(("script", "status"), [("true", 0), ("false", 1), ("exit 42", 42), ("kill -9 $$; exit 3", 3)])
def test_the_programs_status_is_returned(shell: Shell, script: str, status: int) -> None:
    assert shell(script).status == status  # PID 1 cannot be killed from inside, hence 3


@pytest.mark.row("RUN-10")
def test_children_end_with_pid_1(shell: Shell, rootfs: Path) -> None:
    shell("(sleep 1000; touch /late) & exit 0")
    assert not (rootfs / "late").exists()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                assert not os.readlink(f"/proc/{entry.name}/root").startswith(str(rootfs))
            except OSError:
                continue


@pytest.mark.row("RUN-46")
@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH', 127),
        (["/nosuch"], 'exec: "/nosuch": stat /nosuch: no such file or directory', 127),
        (["/etc"], 'exec: "/etc": permission denied', 126),
        (["/text"], "exec /text: exec format error", 126),
        (["/lost"], "exec /lost: no such file or directory", 127),
        (["/proc/self/exe"], 'exec: "/proc/self/exe": permission denied', 126),
    ],
)
def test_a_command_that_cannot_run_fails_in_runcs_words(
    start: Shell, rootfs: Path, args: list[str], message: str, code: int
) -> None:
    for name, content in (("text", "no program\n"), ("lost", "#!/nowhere\n")):
        (rootfs / name).write_text(content)
        (rootfs / name).chmod(0o755)
    result = start(*args)
    assert (result.error, result.code) == (f"unable to start container process: {message}", code)


def test_a_working_directory_that_is_a_file_fails(shell: Shell, spec: dict[str, Any]) -> None:
    spec["process"]["cwd"] = "/etc/passwd"
    assert shell("true").error == (
        'unable to start container process: chdir to cwd ("/etc/passwd") set in config.json failed: not a directory'
    )


@pytest.mark.row("RUN-37")
def test_a_missing_working_directory_is_made(shell: Shell, spec: dict[str, Any]) -> None:
    spec["process"]["cwd"] = "/work/below"
    assert shell("pwd").lines == ["/work/below"]


@pytest.mark.parametrize("number", range(3, 24))
def test_r2_workdir_fd(shell: Shell, spec: dict[str, Any], number: int) -> None:
    spec["process"]["cwd"] = f"/proc/self/fd/{number}"
    assert shell("true").error is not None


def test_r2_no_descriptor_but_stdio_is_open(shell: Shell) -> None:
    # the fourth is the directory that ls reads
    assert shell("ls /proc/self/fd").lines == ["0", "1", "2", "3"]
    own = "n=0; while [ $n -lt 300 ]; do [ -e /proc/self/fd/$n ] && echo $n; n=$((n+1)); done"
    assert shell(own).lines == ["0", "1", "2"]


@pytest.mark.row("RUN-37")
def test_the_user_its_groups_and_umask_are_set(shell: Shell, spec: dict[str, Any]) -> None:
    spec["process"]["user"] = {"uid": 33, "gid": 33, "additionalGids": [33, 44], "umask": 0o27}
    result = shell("id -u; id -g; id -G; umask; echo $HOME")
    assert result.lines == ["33", "33", "33 44", "0027", "/var/www"]


def test_stdio_belongs_to_the_user(shell: Shell, spec: dict[str, Any]) -> None:
    spec["process"]["user"] = {"uid": 33, "gid": 33}
    assert shell("echo text > /dev/stdout").lines == ["text"]


@pytest.mark.row("ISO-05")
def test_capabilities_are_those_of_the_configuration(shell: Shell) -> None:
    sets = dict(line.split(":\t") for line in shell("grep Cap /proc/self/status").lines)
    assert sets == {
        "CapInh": "0000000000000000",
        "CapPrm": "00000000a80425fb",
        "CapEff": "00000000a80425fb",
        "CapBnd": "00000000a80425fb",
        "CapAmb": "0000000000000000",
    }


@pytest.mark.row("ISO-05")
def test_capabilities_the_host_lacks_are_left_out(shell: Shell, spec: dict[str, Any]) -> None:
    from boxship.linux import capabilities

    everything = list(capabilities.NAMES)
    names = ("bounding", "effective", "permitted", "inheritable", "ambient")
    spec["process"]["capabilities"] = dict.fromkeys(names, everything)
    held = capabilities.capget().permitted
    sets = dict(line.split(":\t") for line in shell("grep Cap /proc/self/status").lines)
    assert {int(value, 16) for value in sets.values()} == {held}


def test_ambient_capabilities_reach_a_user_that_is_not_root(shell: Shell, spec: dict[str, Any]) -> None:
    names = ("bounding", "effective", "permitted", "inheritable", "ambient")
    spec["process"]["capabilities"] = {name: ["CAP_NET_RAW"] for name in names}
    spec["process"]["user"] = {"uid": 33, "gid": 33}
    sets = dict(line.split(":\t") for line in shell("grep Cap /proc/self/status").lines)
    assert set(sets.values()) == {"0000000000002000"}


@pytest.mark.row("ISO-08")
def test_no_new_privileges_is_set(shell: Shell, spec: dict[str, Any]) -> None:
    spec["process"]["noNewPrivileges"] = True
    assert shell("grep NoNewPrivs /proc/self/status").lines == ["NoNewPrivs:\t1"]


def test_limits_are_lowered(shell: Shell, spec: dict[str, Any]) -> None:
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    assert shell("ulimit -n; ulimit -Hn").lines == ["100", "200"]


def test_an_unknown_limit_is_named(shell: Shell, spec: dict[str, Any]) -> None:
    spec["process"]["rlimits"] = [{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}]
    assert "invalid rlimit type: RLIMIT_FUN" in shell("true").error


def test_signals_have_their_default_action(start: Shell) -> None:
    lines = dict(line.split(":\t") for line in start("grep", "Sig", "/proc/self/status").lines)
    assert lines["SigIgn"] == "0000000000000000"
    assert lines["SigBlk"] == "0000000000000000"


def test_the_names_of_the_machine_are_set(shell: Shell, spec: dict[str, Any]) -> None:
    spec["hostname"], spec["domainname"] = "box", "example"
    assert shell("hostname; cat /proc/sys/kernel/domainname").lines == ["box", "example"]


def test_parameters_of_own_namespaces_are_set(shell: Shell, spec: dict[str, Any]) -> None:
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}
    assert shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax").lines == ["1", "4096"]
    spec["linux"]["sysctl"] = {"kernel.core_pattern": "x"}
    assert 'sysctl "kernel.core_pattern" is not in a separate kernel namespace' in shell("true").error


def test_devices_and_links_are_there(shell: Shell, spec: dict[str, Any]) -> None:
    spec["linux"]["devices"] = [
        {"path": "/dev/mine/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 33, "gid": 34}
    ]
    result = shell(
        "stat -c '%n %a %t:%T %u:%g' /dev/null /dev/mine/zero; readlink /dev/ptmx; readlink /dev/fd; head -c 2 /dev/zero | wc -c"
    )
    assert result.lines == ["/dev/null 666 1:3 0:0", "/dev/mine/zero 640 1:5 33:34", "pts/ptmx", "/proc/self/fd", "2"]


def test_a_terminal_is_of_the_containers_own_devpts(shell: Shell, spec: dict[str, Any]) -> None:
    spec["process"]["terminal"] = True
    spec["process"]["consoleSize"] = {"height": 33, "width": 101}
    result = shell("tty; stty size; echo console > /dev/console; echo tty > /dev/tty; ls /dev/pts", terminal=True)
    assert result.console.splitlines() == ["/dev/pts/0", "33 101", "console", "tty", "0     ptmx"]


def test_hooks_run_in_order_with_the_state_on_stdin(
    shell: Shell, spec: dict[str, Any], rootfs: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    point = {"path": "/bin/sh", "args": ["sh", "-c", f"(echo $WHERE; cat; echo) >> {log}"]}
    spec["hooks"] = {
        name: [{**point, "env": [f"WHERE={name}"]}] for name in ("prestart", "createRuntime", "createContainer")
    }
    spec["hooks"]["startContainer"] = [
        {"path": "/bin/sh", "args": ["sh", "-c", "cat > /from-hook"], "env": ["PATH=/bin"]}
    ]
    result = shell("cat /from-hook")
    assert json.loads(result.output)["status"] == "created"
    words = log.read_text().splitlines()
    assert words[::2] == ["prestart", "createRuntime", "createContainer"]
    state = json.loads(words[1])
    assert (state["id"], state["status"], state["bundle"]) == ("test", "creating", "/bundle")
    assert state["pid"] == result.host_pid
    assert json.loads(words[5])["pid"] == 1


def test_a_failing_hook_undoes_the_start(shell: Shell, spec: dict[str, Any]) -> None:
    spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 4"]}]}
    result = shell("true")
    assert result.error.endswith("error running hook #0: error running hook: exit status 4, output: no")


def test_a_hook_that_takes_too_long_is_ended(shell: Shell, spec: dict[str, Any]) -> None:
    spec["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}
    assert shell("true").error.endswith("hook ran past specified timeout of 1s")


def test_a_mount_that_fails_is_named_and_undone(shell: Shell, spec: dict[str, Any]) -> None:
    spec["mounts"].append({"destination": "/data", "source": "/nonexistent", "type": "bind", "options": ["rbind"]})
    assert shell("true").error == (
        'unable to start container process: error during container init: error mounting "/nonexistent" to rootfs at '
        '"/data": /nonexistent: no such file or directory'
    )


def test_r1_an_interpreter_line_cannot_reach_the_hosts_interpreter(
    program: Path, rootfs: Path, spec: dict[str, Any], tmp_path: Path
) -> None:
    """The program is ``#!/proc/self/exe``: what runs then is our interpreter, and its file must not be writable."""
    import subprocess

    (rootfs / "evil").write_text("#!/proc/self/exe\n")
    (rootfs / "evil").chmod(0o755)
    # The dynamic linker and libraries are the container's: give it the host's, so that the attack gets that far.
    for directory in ("lib", "lib64", "usr"):
        (rootfs / directory).mkdir()
        spec["mounts"].append(
            {"destination": f"/{directory}", "source": f"/{directory}", "type": "bind", "options": ["rbind", "ro"]}
        )
    (rootfs / "evil").write_text(
        "#!/proc/self/exe\n"
        "import os\n"
        "fd = os.open('/proc/self/exe', os.O_PATH)\n"
        "try:\n"
        "    if os.fork() == 0:\n"
        "        os.execv('/bin/sh', ['sh', '-c', 'sleep 0.2; echo x >> /proc/self/fd/%d && echo written' % fd])\n"
        "    os.set_inheritable(fd, True)\n"
        "    os.execv('/bin/sh', ['sh', '-c', '(: >> /proc/self/fd/%d) && echo writable || echo refused' % fd])\n"
        "except OSError as exc:\n"
        "    print('refused', exc)\n"
    )
    spec["process"]["args"] = ["/evil"]
    spec["root"]["path"] = str(rootfs)
    (tmp_path / "config.json").write_text(json.dumps(spec))
    done = subprocess.run(
        [program, "--root", tmp_path / "state", "run", "--bundle", tmp_path, "r1"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    assert "writable" not in done.stdout
    assert "written" not in done.stdout
    assert "refused" in done.stdout, done.stderr


def test_nothing_of_the_host_is_a_directory_in_the_containers_mounts(shell: Shell, rootfs: Path) -> None:
    lines = shell("cat /proc/self/mountinfo").lines
    root = next(line for line in lines if line.split()[4] == "/").split()[3]
    assert str(rootfs).endswith(root)  # as its own file system sees it
