"""``--squash``: one layer upon the base, with dockerd's history, through both command lines."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import builds
from harness.builds import Builder
from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.images import import_busybox

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

DOCKERFILE = """\
FROM base AS tools
RUN mkdir -p /opt/tool/old && echo 1 > /opt/tool/old/a && echo 2 > /opt/tool/run && ln /opt/tool/run /opt/tool/again
FROM base
COPY --from=tools /opt /opt
RUN rm -rf /opt/tool/old /etc/group && mkdir /opt/tool/old && echo new > /opt/tool/old/b
RUN rm -rf /home && ln -s opt /home && rm -rf /var && mkdir /var && echo x > /var/only
RUN echo secret > /tmp/s
RUN rm /tmp/s && chown 7:8 /opt/tool/run && chmod 4711 /opt/tool/run && echo 3 >> /opt/tool/run
CMD ["sh"]
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(options=["--experimental"])
    try:
        engine.start()
        import_busybox(engine, "base")
        yield engine
    finally:
        engine.close()


def squashed(builder: Builder, directory: Path, name: str, *flags: str) -> None:
    done = subprocess.run(
        ["docker", "build", "--squash", "--no-cache", *flags, "-t", name, str(directory)],
        env={**builder.client_environment(), "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def look(builder: Builder, name: str) -> dict[str, Any]:
    (image,) = json.loads(builder.docker("image", "inspect", name).stdout)
    (base,) = json.loads(builder.docker("image", "inspect", "base").stdout)
    layers = image["RootFS"]["Layers"]
    assert layers[:-1] == base["RootFS"]["Layers"]
    words = builder.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", name).stdout
    return {
        "cmd": image["Config"]["Cmd"],
        "parent": image["Parent"],
        "base": base["Id"],
        "history": words.splitlines(),
        "files": builds.files(builder, name),
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def test_everything_is_in_one_layer_and_nothing_else_is_there(engine: Engine, project: Path) -> None:
    squashed(engine, project, "small")
    engine.boxship("build", "-t", "large", str(project))
    small = look(engine, "small")
    assert small["files"] == builds.files(engine, "large")
    assert small["parent"] == ""
    assert small["files"]["home"][0] == "2" and "var/only" in small["files"] and "etc/group" not in small["files"]
    assert small["files"]["opt/tool/run"][1] == "0o4711"
    large = engine.docker("image", "inspect", "--format", "{{.Id}}", "large").stdout.strip()
    (merged, *rest) = small["history"]
    words, _, comment = merged.partition("|")
    assert words == "" and comment.startswith("merge sha256:") and comment.endswith(f" to {small['base']}")
    # The steps are those of an image with all layers, which stays as what was squashed.
    assert engine.docker("image", "inspect", comment.split()[1]).returncode == 0
    assert [line.partition("|")[0] for line in rest] == [
        line.partition("|")[0]
        for line in engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}|", large).stdout.splitlines()
    ]


@pytest.mark.row("BLD-29")
def test_it_is_what_dockerd_makes(engine: Engine, project: Path) -> None:
    try:
        peer = Dockerd(["--experimental"])
        peer.start()
    except RuntimeError as exc:
        pytest.skip(str(exc))
    try:
        import_busybox(peer, "base")
        found = {}
        for builder in (peer, engine):
            squashed(builder, project, "beside")
            found[builder] = look(builder, "beside")
    finally:
        peer.close()
    theirs, ours = found[peer], found[engine]
    for side in (theirs, ours):
        side["history"] = [re.sub(r"(sha256|dir|file|multi):[0-9a-f]{64}", r"\1", line) for line in side["history"]]
        side.pop("base")
    assert ours == theirs


@pytest.mark.row("BLD-29")
def test_our_command_line_needs_no_experimental_daemon_and_docker_says_that_it_does(project: Path) -> None:
    engine = Engine()
    try:
        engine.start()
        import_busybox(engine, "base")
        engine.boxship("build", "--squash", "-t", "ours", str(project))
        assert look(engine, "ours")["files"]["var/only"]
        engine.boxship(
            "build", "--squash", "-t", "scratched", "-f", "-", str(project), input="FROM scratch\nCOPY . /\n"
        )
        history = engine.docker("history", "--no-trunc", "--format", "{{.Comment}}", "scratched").stdout.splitlines()
        assert history[0].startswith("create new from sha256:")
        refused = engine.docker("build", "--squash", str(project), check=False)
        assert refused.returncode != 0 and "experimental features enabled" in refused.stderr
    finally:
        engine.close()
