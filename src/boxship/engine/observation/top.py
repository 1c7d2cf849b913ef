"""The processes of a container as the host's ``ps`` shows them (GET /containers/{id}/top).

``ps`` runs on the host, from a fixed path, with the caller's options; out of its lines those of the container are kept.
Nothing of the container is looked up or executed. A host without ``ps`` gets the two usual listings from ``process_list``.
Reading of a process that is stuck in the kernel can be stuck in turn, so whatever reads has a deadline and is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection

from boxship.base.errors import DeadlineExceeded, InvalidInput, SystemFailure
from boxship.engine.observation import process_list
from boxship.engine.rootfs import threads
from boxship.spec.docker.container import TopResult

DEFAULT_ARGS = "-ef"
PS_PATHS = ("/usr/bin/ps", "/bin/ps")
PS_TIMEOUT = 10.0  # seconds
REAP_TIMEOUT = 1.0  # seconds for a killed ps to end

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
_BLANKS = " \t\n\f\r"


async def top(
    pids: Collection[int], ps_args: str, *, ps_paths: Collection[str] = PS_PATHS, timeout: float = PS_TIMEOUT
) -> TopResult:
    """Return what ``ps`` with ``ps_args`` (blank-separated; "" means "-ef") says about ``pids``.

    Raises InvalidInput for options that would forge the PID column, SystemFailure with the first line of what ``ps``
    complained about, and when its output has no PID column, DeadlineExceeded after ``timeout`` seconds.
    """
    arguments = ps_args or DEFAULT_ARGS
    check_arguments(arguments)
    program = next((path for path in ps_paths if os.access(path, os.X_OK)), None)
    if program is None:
        output = await threads.answered(lambda: process_list.render(arguments, pids), timeout, _late(timeout))
    else:
        try:
            async with asyncio.timeout(timeout):
                output = await _run(program, arguments.split(" "), pids)
        except TimeoutError:
            raise DeadlineExceeded(_late(timeout)) from None
    return parse(output, pids)


def _late(timeout: float) -> str:
    return f"ps: no answer within {timeout:.0f} seconds"


def check_arguments(arguments: str) -> None:
    """Refuse a user-defined column title that begins with PID, as Docker does: rows are told apart by that column."""
    words = _fields(arguments.replace("=", " = "))
    for index in range(1, len(words) - 1):
        title, sign, value = words[index - 1 : index + 2]
        if sign == "=" and value.startswith("PID") and title != "pid":
            raise InvalidInput(f'specifying "{title}={value}" is not allowed')


async def _run(program: str, arguments: list[str], pids: Collection[int]) -> str:
    """Return what ``ps`` writes, asked about ``pids`` only where its options allow that."""
    selection = "-q" + ",".join(map(str, pids))
    code, output, complaint = await _execute(program, [*arguments, selection])
    if code != 0:
        code, output, complaint = await _execute(program, arguments)
    if code != 0:
        first = complaint.partition("\n")[0]
        raise SystemFailure(f"ps: {first}" if first else f"ps: exit status {code}")
    return output


async def _execute(program: str, arguments: list[str]) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_ENVIRONMENT,
    )
    try:
        output, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REAP_TIMEOUT):
                    await process.wait()
    return process.returncode or 0, output.decode(errors="replace"), complaint.decode(errors="replace")


def parse(output: str, pids: Collection[int]) -> TopResult:
    """Return the titles of ``ps`` output and the rows whose PID is one of ``pids``.

    A row has as many fields as there are titles; what is left over belongs to the last. Lines with "-" as PID are the
    threads of the process before them.
    """
    head, *lines = output.split("\n")
    titles = _fields(head)
    if "PID" not in titles:
        raise SystemFailure("Couldn't find PID field in ps output")
    column = len(titles) - 1 - titles[::-1].index("PID")
    rows = []
    mine = False
    for line in lines:
        fields = _fields(line)
        if len(fields) <= column:
            continue
        text = fields[column]
        if text != "-":
            if not text.isdecimal():
                raise SystemFailure(f"Unexpected pid '{text}': strconv.Atoi: parsing \"{text}\": invalid syntax")
            mine = int(text) in pids
        if mine:
            last = len(titles) - 1
            rows.append([*fields[:last], " ".join(fields[last:])])
    return TopResult(titles=titles, processes=rows)


def _fields(text: str) -> list[str]:
    """Split at ASCII blanks only: a command line may hold other characters that str.split takes for blanks."""
    for blank in _BLANKS[1:]:
        text = text.replace(blank, " ")
    return [field for field in text.split(" ") if field]
