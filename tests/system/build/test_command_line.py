"""``boxship build`` and ``builder prune`` as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.engine import Engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

DOCKERFILE = """FROM base AS tools
RUN echo tool > /tool
FROM base
COPY --from=tools /tool /tool
COPY f /f
RUN cat /f; echo warned >&2
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "f").write_text(f"content of {tmp_path.name}\n")
    return tmp_path


def test_lines_say_what_each_step_did_and_why(engine: Engine, project: Path) -> None:
    first = engine.boxship("build", "-t", "lines", "--progress", "plain", str(project))
    assert "[stage-1 4/4] RUN cat /f; echo warned >&2\n" in first.stderr
    assert f" content of {project.name}\n" in first.stderr and " warned\n" in first.stderr
    assert "\nnamed lines:latest\n" in first.stderr and first.stdout == ""
    (project / "f").write_text("another\n")
    why = engine.boxship("build", "--why", "--progress", "plain", str(project)).stderr
    assert "not cached: f changed" in why and why.count("CACHED") == 2
    assert engine.boxship("build", "--why", "--progress", "plain", str(project)).stderr.count("CACHED") == 4


def test_one_line_events_and_an_id_in_a_file(engine: Engine, project: Path) -> None:
    id = engine.boxship("build", "-q", str(project)).stdout
    assert id.startswith("sha256:") and len(id.strip()) == 71
    raw = engine.boxship("build", "--progress", "rawjson", str(project)).stderr.splitlines()
    events = [json.loads(line) for line in raw]
    assert events[0]["event"] == "planned" and events[-1] == {**events[-1], "event": "built", "image": id.strip()}
    engine.boxship("build", "--iidfile", str(project / "id"), str(project))
    assert (project / "id").read_text() == id.strip()


def test_a_failure_has_its_text_and_the_programs_code_and_no_old_id_is_left(engine: Engine, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM base\nRUN echo before; exit 42\n")
    (project / "id").write_text("old")
    done = engine.boxship("build", "--iidfile", str(project / "id"), str(project), check=False)
    assert done.returncode == 42
    assert done.stderr.endswith("ERROR: The command '/bin/sh -c echo before; exit 42' returned a non-zero code: 42\n")
    assert " before\n" in done.stderr and not (project / "id").exists()
    quiet = engine.boxship("build", "-q", str(project), check=False)
    assert (quiet.returncode, quiet.stdout) == (42, "")


def test_mistakes_are_explained(engine: Engine, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM base\nRUNN true\n")
    done = engine.boxship("build", str(project), check=False)
    assert done.returncode == 1
    assert "dockerfile parse error line 2: unknown instruction: RUNN (did you mean RUN?)" in done.stderr
    assert "invalid progress mode fancy" in engine.boxship("build", "--progress", "fancy", ".", check=False).stderr
    assert "invalid reference format" in engine.boxship("build", "-t", "A B", ".", check=False).stderr


def test_what_builds_kept_can_be_removed(engine: Engine, project: Path) -> None:
    engine.boxship("build", "-t", "kept", str(project))
    assert "Deleted build cache objects:\n" in engine.boxship("builder", "prune", "-af").stdout
    assert engine.boxship("builder", "prune", "-af").stdout == "Total reclaimed space: 0B\n"
    assert "CACHED" not in engine.boxship("build", "--progress", "plain", str(project)).stderr
    assert engine.docker("run", "--rm", "kept", "cat", "/tool").stdout == "tool\n"
