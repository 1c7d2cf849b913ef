"""Processes by descriptor, so that a reused pid is never taken for the one that was meant: pidfd_open(2) and friends."""

import os
import select
import signal


def pidfd_open(pid: int) -> int:
    """Return a close-on-exec descriptor of process ``pid``. Raises ProcessLookupError when there is none."""
    return os.pidfd_open(pid)


def send_signal(pidfd: int, signum: int) -> None:
    """Send ``signum`` to the process of ``pidfd``. Raises ProcessLookupError when it has been reaped or is a zombie's remains."""
    signal.pidfd_send_signal(pidfd, signum)


def wait(pidfd: int, timeout: float | None = None) -> bool:
    """Wait until the process has ended, at most ``timeout`` seconds; tell whether it has. Does not reap it."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else timeout * 1000))


def start_time(pid: int) -> int:
    """Return when ``pid`` started, in clock ticks since boot: with the pid, a name that is never reused.

    See field 22 of proc_pid_stat(5). Raises ProcessLookupError when there is no such process.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except FileNotFoundError as exc:
        raise ProcessLookupError(f"no process {pid}") from exc
    return int(text[text.rindex(b")") + 2 :].split()[19])
