"""A small process that starts containers for the tests: it forks and unshares, which the test process must not.

Reads one JSON document from stdin: ``{"spec", "rootfs", "terminal": bool, "execs": [process, ...], "cgroup": path|null,
"seccomp": base64|null, "until_refused": bool, "ends_under_execs": bool}``; starts the container, runs the execs in it one
after the other (over and over if ``until_refused``, to the first that fails; ``ends_under_execs`` kills it while they are
on their way in), waits for its end when there were none (else kills it), and prints ``{"error", "code", "status", "console", "execs": [...], "leaked": [...]}``.
The container's output goes to stderr, the result to stdout.
"""

import base64
import itertools
import json
import os
import signal
import sys
import time

from boxship.linux import cgroup, pidfd, prctl
from boxship.runtime import launch


def read_console(console: int) -> str:
    output = b""
    try:
        while chunk := os.read(console, 4096):
            output += chunk
    except OSError:
        pass  # EIO: the last user of the terminal is gone
    os.close(console)
    return output.decode()


def descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue  # the directory itself
    return found


class LastMoment:
    """In the place of an exec's cgroup: the container's init is killed when the process joins it."""

    def __init__(self, init: launch.InitProcess) -> None:
        self._init = init

    def join(self) -> None:
        os.kill(self._init.pid, signal.SIGKILL)
        pidfd.wait(self._init.pidfd)


def attempt(result: dict, start) -> launch.InitProcess | None:
    try:
        return start()
    except launch.RuntimeFailure as exc:
        result.update(error=exc.message, code=exc.code)
        return None


def finish(result: dict, process: launch.InitProcess) -> None:
    if process.console >= 0:
        result["console"] = read_console(process.console)
    _, status = os.waitpid(process.pid, 0)
    result["status"] = os.waitstatus_to_exitcode(status)
    os.close(process.pidfd)


def main() -> None:
    request = json.load(sys.stdin)
    prctl.set_child_subreaper(True)
    null = os.open("/dev/null", os.O_RDWR)
    stdio = None if request.get("terminal") else (null, 2, 2)
    code = base64.b64decode(request["seccomp"]) if request.get("seccomp") else None
    group = cgroup.open_cgroup(request["cgroup"]) if request.get("cgroup") else None
    if group is not None:
        group.create()
    before = descriptors()
    result: dict = {"error": None, "execs": []}
    began = time.perf_counter()
    init = attempt(
        result,
        lambda: launch.start_init(
            request["spec"],
            container_id="test",
            rootfs=request["rootfs"],
            stdio=stdio,
            cgroup=group,
            seccomp_program=code,
            bundle="/bundle",
        ),
    )
    result["milliseconds"] = (time.perf_counter() - began) * 1000
    if init is not None:
        result["host_pid"] = init.pid
        execs = request.get("execs", [])
        for process in itertools.cycle(execs) if request.get("until_refused") else execs:
            answer: dict = {"error": None}
            result["execs"].append(answer)
            child = attempt(
                answer,
                lambda process=process, init=init: launch.start_exec(
                    process,
                    init_pidfd=init.pidfd,
                    init_pid=init.pid,
                    cgroup=LastMoment(init) if request.get("ends_under_execs") else group,
                    stdio=None if process.get("terminal") else (null, 2, 2),
                    seccomp_program=code,
                    container_id="test",
                ),
            )
            if child is not None:
                finish(answer, child)
            elif request.get("until_refused"):
                break
        if request.get("execs"):
            os.kill(init.pid, signal.SIGKILL)
        finish(result, init)
    result["leaked"] = sorted(descriptors() - before)
    try:
        os.waitpid(-1, os.WNOHANG)
        result["leaked"].append("a child")
    except ChildProcessError:
        pass
    if group is not None:
        group.remove()
    print(json.dumps(result))


main()
