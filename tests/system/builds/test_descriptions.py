"""``build --check`` and ``--call``: what can be said without building, and where a Dockerfile is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.engine import Engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

TEXT = """# final has all
FROM no.such.registry.example/none:1 AS final
# COLOR of the walls
ARG COLOR=blue
MAINTAINER somebody
LABEL a=$FROM_THE_BASE
RUN --mount=type=secret,id=token,required true
"""


def _context(directory: Path, text: str) -> str:
    (directory / "Dockerfile").write_text(text)
    return str(directory)


@pytest.mark.row("BLD-33")
def test_a_check_needs_no_base_image(engine: Engine, tmp_path: Path) -> None:
    found = engine.boxship("build", "--check", _context(tmp_path, TEXT), check=False)
    assert found.returncode == 1 and found.stderr == ""
    assert found.stdout.startswith("Check complete, 1 warning has been found!\n\nWARNING: MaintainerDeprecated - ")
    assert "Dockerfile:5\n" in found.stdout and "   5 | >>> MAINTAINER somebody\n" in found.stdout
    listed = engine.boxship("build", "--call=check,format=json", str(tmp_path), check=False)
    assert listed.returncode == 1
    assert [each["ruleName"] for each in json.loads(listed.stdout)["warnings"]] == ["MaintainerDeprecated"]
    clean = engine.boxship("build", "--check", _context(tmp_path, TEXT.replace("MAINTAINER ", "LABEL by=")))
    assert clean.stdout == "Check complete, no warnings found.\n"
    # The context may be anything: nothing of it is read but the Dockerfile and what it leaves out.
    assert engine.docker("images", "-q", "no.such.registry.example/none").stdout == ""


@pytest.mark.row("BLD-33")
def test_a_check_of_an_image_that_is_here_knows_its_variables(engine: Engine, tmp_path: Path) -> None:
    text = "FROM busybox\nENV KNOWN=1\nLABEL a=$KNOWN b=$UNKNOWN\n"
    found = engine.boxship("build", "--check", _context(tmp_path, text), check=False)
    assert found.returncode == 1 and found.stdout.count("WARNING: ") == 1
    assert "WARNING: UndefinedVar" in found.stdout and "'$UNKNOWN'" in found.stdout


def test_targets_and_parameters_are_told(engine: Engine, tmp_path: Path) -> None:
    context = _context(tmp_path, TEXT)
    targets = engine.boxship("build", "--call", "targets", context)
    assert targets.stdout == "TARGET            DESCRIPTION\nfinal (default)   has all\n"
    outline = engine.boxship("build", "--call=outline", "--build-arg", "COLOR=red", context)
    assert outline.stdout == (
        "TARGET:        final\nDESCRIPTION:   has all\n\n"
        "BUILD ARG   VALUE   DESCRIPTION\nCOLOR       red     of the walls\n\nSECRET   REQUIRED\ntoken    true\n"
    )
    document = json.loads(engine.boxship("build", "--call=outline,format=json", context).stdout)
    assert (document["name"], document["args"][0]["value"]) == ("final", "blue")
    wrong = engine.boxship("build", "--call=paint", context, check=False)
    assert wrong.returncode != 0 and "unsupported method paint" in wrong.stderr
    assert engine.api("POST", "/boxship/build?call=paint", {})[0] == 400


@pytest.mark.row("BLD-25")
@pytest.mark.parametrize("mode", ["plain", "quiet", "check"])
def test_a_mistake_is_shown_where_it_is(engine: Engine, tmp_path: Path, mode: str) -> None:
    context = _context(tmp_path, "FROM busybox\nRUN true\nRUNN true\nRUN false\n")
    flags = ("--check",) if mode == "check" else ("--progress", mode)
    done = engine.boxship("build", *flags, context, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "Dockerfile:3\n--------------------\n   1 |     FROM busybox\n   2 |     RUN true\n   3 | >>> RUNN true\n"
        "     |     ^^^^\n   4 |     RUN false\n--------------------\n"
        "Error response from daemon: dockerfile parse error line 3: unknown instruction: RUNN (did you mean RUN?)\n"
    )


@pytest.mark.row("BLD-25")
def test_docker_and_the_classic_words_have_the_message_alone(engine: Engine, tmp_path: Path) -> None:
    context = _context(tmp_path, "FROM busybox\nCOPY --chmod=12345 . /\n")
    status, document = engine.api("POST", "/build?remote=http://127.0.0.1:1/x", None)
    assert status >= 400 and set(document) == {"message"}
    classic = engine.docker("build", context, check=False)
    assert "--------------------" not in classic.stderr + classic.stdout
