"""``--help`` of every command is Docker's, but for what only one of the two has."""

from __future__ import annotations

import pytest

from boxship.cli.commands import ALIASES, COMMANDS, GROUPS

SAME = [
    *[
        "exec",
        "ps",
        "images",
        "version",
        "info",
        "attach",
        "commit",
        "diff",
        "events",
        "export",
        "history",
        "import",
        "inspect",
        "kill",
        "load",
        "logs",
        "pause",
    ],
    *[
        "port",
        "pull",
        "rename",
        "restart",
        "rm",
        "rmi",
        "save",
        "start",
        "stats",
        "stop",
        "tag",
        "top",
        "unpause",
        "wait",
        "container",
    ],
    *(f"network {name}" for name in ("create", "connect", "disconnect", "inspect", "ls", "prune", "rm")),
    *(f"container {name}" for name in ("inspect", "ls", "prune", "rm", "stop")),
    *(f"image {name}" for name in ("inspect", "ls", "prune", "rm")),
    *(f"context {name}" for name in ("create", "inspect", "ls", "rm")),
    *("checkpoint", *(f"checkpoint {name}" for name in ("create", "ls", "rm"))),
    *("volume inspect", "volume prune", "system df", "system prune"),
]


@pytest.mark.row("CLI-07", "CLI-01")
@pytest.mark.parametrize("command", SAME)
def test_help_is_dockers(command, docker, boxship) -> None:
    # No engine: Docker then hides nothing that an old engine would lack.
    words = ("-H", "unix:///nope", *command.split(), "--help")
    theirs = docker(*words)
    assert boxship(*words) == theirs


@pytest.mark.parametrize(("group", "own"), [("network", "explain"), ("system", "fsck")])
def test_help_of_a_group_has_one_command_more(group, own, docker, boxship) -> None:
    words = ("-H", "unix:///nope", group, "--help")
    code, ours, *rest = boxship(*words)
    assert (code, "".join(line for line in ours.splitlines(True) if f" {own} " not in line), *rest) == docker(*words)


@pytest.mark.row("CLI-07")
@pytest.mark.parametrize("name", [name for name in sorted({*COMMANDS, *ALIASES}) if name != "image bootstrap"])
def test_every_command_has_help(name, boxship) -> None:
    status, out, err = boxship(*name.split(), "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage:  docker {name}")


@pytest.mark.row("CLI-07")
@pytest.mark.parametrize("name", sorted(GROUPS))
def test_a_group_alone_prints_its_help_on_stderr(name, boxship) -> None:
    status, out, err = boxship(name)
    assert (status, out) == (0, "")
    assert err == boxship(name, "--help")[1]


def test_the_program_answers_under_its_own_name(boxship) -> None:
    import dataclasses
    from pathlib import Path

    program = dataclasses.replace(boxship, command=(str(Path(__file__).parents[2] / "bin" / "boxship"),))
    assert program("foo") == (
        1,
        "",
        "boxship: unknown command: boxship foo\n\nRun 'boxship --help' for more information\n",
    )
