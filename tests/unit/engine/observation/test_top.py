import asyncio
import os
import time
from pathlib import Path

import pytest

from boxship.base.errors import DeadlineExceeded, InvalidInput, SystemFailure
from boxship.engine.observation import process_list, top

EF = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 22:45 ?        00:00:08 /sbin/init splash
root       18916   18896  0 23:20 ?        00:00:00 sleep   1000
"""
HOST = process_list.Host(now=1_700_000_000.0, boot_time=1_699_990_000, memory_total=1 << 30)
TICKS = os.sysconf("SC_CLK_TCK")


def run(pids: list[int], args: str, ps: str | None = None) -> top.TopResult:
    paths = top.PS_PATHS if ps is None else (ps,)
    return asyncio.run(top.top(pids, args, ps_paths=paths))


@pytest.mark.row("RUN-28")
def test_rows_of_the_container_are_kept_and_the_command_is_one_field() -> None:
    result = top.parse(EF, [18916])
    assert result.titles == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert result.processes == [["root", "18916", "18896", "0", "23:20", "?", "00:00:00", "sleep 1000"]]


def test_threads_belong_to_the_process_before_them() -> None:
    output = "PID LWP CMD\n7 - init\n- 7 -\n8 - other\n- 8 -\n"
    assert top.parse(output, [7]).processes == [["7", "-", "init"], ["-", "7", "-"]]


@pytest.mark.row("RUN-28")
@pytest.mark.parametrize("output", ["", "UID CMD\nroot sh\n", "1 sh\n"])
def test_output_without_a_pid_column_is_an_error(output: str) -> None:
    with pytest.raises(SystemFailure, match=r"^Couldn't find PID field in ps output$"):
        top.parse(output, [1])


def test_a_pid_that_is_no_number_is_an_error() -> None:
    with pytest.raises(SystemFailure, match=r"^Unexpected pid 'x'"):
        top.parse("PID CMD\nx sh\n", [1])


def test_a_last_column_called_pid_is_the_one_that_counts() -> None:
    assert top.parse("PID PID\n1 2\n", [2]).processes == [["1", "2"]]


@pytest.mark.parametrize("args", ["-o cmd=PID", "-eo user=PID,cmd", "aux -o x= PIDx", "-ocmd=PID"])
def test_a_forged_pid_column_is_refused(args: str) -> None:
    with pytest.raises(InvalidInput, match="is not allowed"):
        top.check_arguments(args)


@pytest.mark.parametrize("args", ["-ef", "aux", "-o pid,cmd", "-eo pid=", "--sort=pid"])
def test_usual_arguments_are_allowed(args: str) -> None:
    top.check_arguments(args)


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "ps"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.row("RUN-28")
def test_the_first_line_of_a_complaint_is_the_error(tmp_path: Path) -> None:
    ps = script(tmp_path, "echo 'error: unsupported option (BSD syntax)' >&2; echo 'Usage:' >&2; exit 1\n")
    with pytest.raises(SystemFailure, match=r"^ps: error: unsupported option \(BSD syntax\)$"):
        run([1], "badarg", ps)


def test_a_silent_failure_names_the_exit_status(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match=r"^ps: exit status 3$"):
        run([1], "", script(tmp_path, "exit 3\n"))


def test_ps_is_asked_for_the_pids_and_again_without_when_it_cannot(tmp_path: Path) -> None:
    ps = script(tmp_path, 'case "$*" in *-q*) exit 1;; esac\necho PID ARGS\necho "7 $*"\n')
    assert run([7, 8], "-e -f", ps).processes == [["7", "-e -f"]]
    ps = script(tmp_path, 'echo PID ARGS\necho "7 $*"\n')
    assert run([7, 8], "", ps).processes == [["7", "-ef -q7,8"]]


def test_ps_sees_nothing_of_the_callers_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("PS_FORMAT", "cmd")
    ps = script(tmp_path, 'echo PID FORMAT\necho "7 ${PS_FORMAT-unset}"\n')
    assert run([7], "", ps).processes == [["7", "unset"]]


@pytest.mark.skipif(not any(os.access(path, os.X_OK) for path in top.PS_PATHS), reason="this host has no ps")
@pytest.mark.row("RUN-28")
def test_the_hosts_ps_lists_this_process() -> None:
    result = run([os.getpid()], "-o pid,ppid,cmd")
    assert result.titles == ["PID", "PPID", "CMD"]
    assert [row[:2] for row in result.processes] == [[str(os.getpid()), str(os.getppid())]]


@pytest.mark.parametrize("args", ["", "aux"])
def test_a_host_without_ps_lists_this_process_all_the_same(args: str, tmp_path: Path) -> None:
    result = run([os.getpid(), 1 << 30], args, str(tmp_path / "none"))
    assert len(result.processes) == 1
    assert result.processes[0][1] == str(os.getpid())


def test_a_host_without_ps_says_which_arguments_it_understands(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match='only "-ef" and "aux"'):
        run([1], "-o pid", str(tmp_path / "none"))


def process(stat_rest: str, arguments: bytes) -> process_list.Process:
    return process_list.parse_process(f"42 (a) (b c) {stat_rest}", arguments, user="root", host=HOST)


STAT = f"S 7 42 42 34817 0 0 0 0 0 0 {2 * TICKS} {TICKS} 0 0 20 0 1 0 {5000 * TICKS} 1048576 256 0"


def test_a_process_is_read_around_a_name_with_brackets() -> None:
    read = process(STAT, b"sleep\x00a\nb\x00")
    assert (read.pid, read.ppid, read.state, read.terminal) == (42, 7, "S", "pts/1")
    assert read.cpu_seconds == 3
    assert read.started == HOST.boot_time + 5000
    assert read.command == "sleep a?b"
    assert process(STAT, b"").command == "[a) (b c]"


def test_the_own_listings_look_like_those_of_ps() -> None:
    started = time.strftime("%H:%M", time.localtime(HOST.boot_time + 5000))
    read = process(STAT, b"sleep\x001\x00")
    assert process_list.render_ef([read], HOST).splitlines()[1].split() == [
        *("root", "42", "7", "0", started, "pts/1", "00:00:03", "sleep", "1"),
    ]
    assert process_list.render_aux([read], HOST).splitlines()[1].split() == [
        *("root", "42", "0.1", "0.1", "1024", "1024", "pts/1", "Ss", started, "0:03", "sleep", "1"),
    ]


def test_a_ps_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded, match="ps: no answer within"):
        asyncio.run(top.top([1], "", ps_paths=[script(tmp_path, "exec sleep 1000\n")], timeout=0.05))
