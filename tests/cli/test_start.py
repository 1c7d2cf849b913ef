"""The command line starts on a diet: what it must never import, and how little it does import."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else "python3"
SOURCE = Path(__file__).parents[2] / "src"
HEAVY = {
    *("argparse", "asyncio", "collections", "dataclasses", "datetime", "enum", "http.client", "inspect", "json"),
    *("logging", "pathlib", "re", "site", "socket", "ssl", "subprocess", "tempfile", "typing", "urllib.parse"),
}
LIMIT = 75  # modules of all kinds; a bare interpreter has about 35

PROGRAM = """
import sys
sys.path.append({source!r})
from boxship.cli.main import main
status = main(["docker", *{words!r}])
sys.stderr.write("\\n" + " ".join(sorted(sys.modules)))
sys.exit(status)
"""


def imported(engine, words: list[str], environment: dict[str, str]) -> set[str]:
    program = PROGRAM.format(source=str(SOURCE), words=words)
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-c", program], capture_output=True, text=True, env=environment, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("\n")[2].split())


@pytest.mark.parametrize("words", [["ps"], ["version"], ["create", "busybox"], ["inspect", "web"], ["images"]])
def test_a_command_imports_no_heavy_module(words, engine, boxship) -> None:
    engine.answers["GET", "/containers/json"] = (200, [])
    engine.answers["GET", "/images/json"] = (200, [])
    engine.answers["GET", "/version"] = (200, {"Version": "1", "ApiVersion": "1.50"})
    engine.answers["POST", "/containers/create"] = (201, {"Id": "ab" * 32})
    engine.answers["GET", "/containers/web/json"] = (200, {"Id": "ab" * 32})
    modules = imported(engine, words, boxship.environment)
    assert modules & HEAVY == set()
    assert len(modules) <= LIMIT


def test_the_table_of_commands_loads_no_command(boxship, engine) -> None:
    modules = imported(engine, ["--help"], boxship.environment)
    assert [name for name in modules if name.startswith("boxship.cli.commands.")] == []


def test_every_command_in_the_table_can_be_loaded() -> None:
    from boxship.cli.commands import ALIASES, COMMANDS
    from boxship.cli.main import load

    for name in COMMANDS:
        if name != "image bootstrap":
            assert load(name).usage is not None
    assert set(ALIASES.values()) <= set(COMMANDS)
