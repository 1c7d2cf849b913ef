"""Process listings for a host without ``ps``: ``-ef`` and ``aux`` in the layout of procps, read from /proc."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Collection

import msgspec

from boxship.base.errors import SystemFailure

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
_STYLES = {"-ef": "ef", "aux": "aux", "-aux": "aux"}


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process, from /proc/<pid>/stat and its neighbours; see proc(5)."""

    pid: int
    ppid: int
    user: str
    state: str  # one letter
    is_session_leader: bool
    terminal: str  # "pts/0", "?" without
    cpu_seconds: float
    started: float  # seconds since 1970
    virtual_bytes: int
    resident_bytes: int
    command: str


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What the percentages and the starting times refer to."""

    now: float  # seconds since 1970
    boot_time: int  # seconds since 1970
    memory_total: int  # bytes


def render(arguments: str, pids: Collection[int]) -> str:
    """Return the listing of ``pids`` that ``ps`` with ``arguments`` would print; blocking.

    Raises SystemFailure for other arguments than the usual two.
    """
    style = _STYLES.get(arguments)
    if style is None:
        raise SystemFailure('ps: not installed on this host; without it only "-ef" and "aux" are understood')
    host = read_host()
    processes = [process for pid in sorted(pids) if (process := read_process(pid, host)) is not None]
    return render_ef(processes, host) if style == "ef" else render_aux(processes, host)


def render_ef(processes: list[Process], host: Host) -> str:
    """Return ``processes`` in the layout of ``ps -ef``."""
    lines = ["UID          PID    PPID  C STIME TTY          TIME CMD"]
    for each in processes:
        busy = min(int(_cpu_percent(each, host)), 99)
        lines.append(
            f"{each.user:<8} {each.pid:>7} {each.ppid:>7} {busy:>2} {_start(each, host):<5} {each.terminal:<8} "
            f"{_long_time(each.cpu_seconds)} {each.command}"
        )
    return "\n".join(lines) + "\n"


def render_aux(processes: list[Process], host: Host) -> str:
    """Return ``processes`` in the layout of ``ps aux``."""
    lines = ["USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND"]
    for each in processes:
        state = each.state + ("s" if each.is_session_leader else "")
        memory = 100 * each.resident_bytes / host.memory_total
        minutes, seconds = divmod(int(each.cpu_seconds), 60)
        lines.append(
            f"{each.user:<8} {each.pid:>7} {_cpu_percent(each, host):>4.1f} {memory:>4.1f} {each.virtual_bytes // 1024:>6} "
            f"{each.resident_bytes // 1024:>5} {each.terminal:<8} {state:<4} {_start(each, host):<5} "
            f"{minutes:>3}:{seconds:02} {each.command}"
        )
    return "\n".join(lines) + "\n"


def read_host() -> Host:
    boot_time = 0
    with open("/proc/stat") as file:
        for line in file:
            if line.startswith("btime "):
                boot_time = int(line.split()[1])
    memory_total = os.sysconf("SC_PHYS_PAGES") * _PAGE_SIZE
    return Host(now=time.time(), boot_time=boot_time, memory_total=memory_total)


def read_process(pid: int, host: Host) -> Process | None:
    """Read one process; None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read()
        uid = os.stat(f"/proc/{pid}").st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None
    return parse_process(stat, arguments, user=_user_name(uid), host=host)


def parse_process(stat: str, arguments: bytes, *, user: str, host: Host) -> Process:
    """Make a process of the texts of /proc/<pid>/stat and /proc/<pid>/cmdline."""
    # The name is in brackets and may hold blanks and brackets itself.
    start, end = stat.index("("), stat.rindex(")")
    name = stat[start + 1 : end]
    fields = stat[end + 2 :].split()
    pid = int(stat[:start])
    words = arguments.rstrip(b"\0").split(b"\0") if arguments else []
    # Control characters would break the listing apart.
    command = b" ".join(words).decode(errors="replace").translate(_PRINTABLE) or f"[{name.translate(_PRINTABLE)}]"
    return Process(
        pid=pid,
        ppid=int(fields[1]),
        user=user,
        state=fields[0],
        is_session_leader=int(fields[3]) == pid,
        terminal=_terminal(int(fields[4])),
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        started=host.boot_time + int(fields[19]) / _TICKS,
        virtual_bytes=int(fields[20]),
        resident_bytes=int(fields[21]) * _PAGE_SIZE,
        command=command,
    )


_PRINTABLE = dict.fromkeys((*range(32), 127), "?")


def _user_name(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if len(name) <= 8 else name[:7] + "+"


def _terminal(device: int) -> str:
    """Name a terminal by its device number: 136..143 are pseudo terminals of 256 each, 4 the consoles."""
    major, minor = device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    if major == 4 and minor < 64:
        return f"tty{minor}"
    return "?"


def _cpu_percent(process: Process, host: Host) -> float:
    age = host.now - process.started
    return 100 * process.cpu_seconds / age if age > 0 else 0.0


def _start(process: Process, host: Host) -> str:
    started, now = time.localtime(process.started), time.localtime(host.now)
    if started.tm_year != now.tm_year:
        return time.strftime("%Y", started)
    return time.strftime("%H:%M" if started.tm_yday == now.tm_yday else "%b%d", started)


def _long_time(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hour:02}:{minute:02}:{second:02}"
