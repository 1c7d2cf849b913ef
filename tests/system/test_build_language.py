"""What Dockerfiles mean, seen in the images and containers that the real docker command line gets of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def _build(engine: Engine, directory: Path, files: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return subprocess.run(
        [*engine.namespace.prefix(), "docker", "build", *flags, str(directory)],
        env={**engine.client_environment(), "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def _built(engine: Engine, directory: Path, files: dict[str, str], *flags: str) -> str:
    done = _build(engine, directory, files, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _config(engine: Engine, image: str) -> dict[str, object]:
    return json.loads(engine.docker("image", "inspect", "-f", "{{json .Config}}", image).stdout)


def _run(engine: Engine, *args: str) -> str:
    return engine.docker("run", "--rm", "--network", "none", *args).stdout


@pytest.mark.row("BLD-08", "BLD-09", "BLD-25")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM busybox\nBOGUS x\n", "dockerfile parse error line 2: unknown instruction: BOGUS"),
        ("FROM busybox #base image\n", "dockerfile parse error line 1: FROM requires either one or three arguments"),
        ("CMD x\n", "no build stage in current context"),
        ("# escape=x\nFROM busybox\n", "failed to parse Dockerfile: invalid escape token 'x' does not match ` or \\"),
        ("FROM busybox\nENV A\n", "failed to parse Dockerfile: ENV must have two arguments"),
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
    ],
)
def test_a_bad_dockerfile_is_refused_in_dockers_words(engine: Engine, tmp_path: Path, text: str, message: str) -> None:
    done = _build(engine, tmp_path, {"Dockerfile": text})
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr


@pytest.mark.row("BLD-13", "BLD-14", "BLD-16", "BLD-17", "BLD-18", "BLD-19", "BLD-25", "BLD-26")
def test_settings_of_an_image_hold_in_its_containers(engine: Engine, tmp_path: Path) -> None:
    text = (
        "# escape=`\nfrom busybox\nMAINTAINER me@example.com\nENV NAME world\nENV A=${NAME:-x} B=${NONE:+y} C='$A'\n"
        "WORKDIR /srv\nWORKDIR $A\nRUN pwd > where && `\n  echo $A$B > said\nUSER 7:8\nRUN id -u > /tmp/who\n"
        "LABEL one=1 'two words'=\"2 3\"\nEXPOSE 80 90/udp\nCMD echo first\nCMD echo $A $PWD\n"
    )
    _built(engine, tmp_path, {"Dockerfile": text}, "-t", "settings", "--label", "from=outside")
    assert _run(engine, "settings") == "world /srv/world\n"
    shown = _run(engine, "settings", "sh", "-c", "cat where said /tmp/who; id -g; echo $NAME$C")
    assert shown == "/srv/world\nworld\n7\n8\nworld$A\n"
    config = _config(engine, "settings")
    assert config["Labels"] == {"one": "1", "two words": "2 3", "from": "outside"}
    assert config["ExposedPorts"] == {"80/tcp": {}, "90/udp": {}}
    assert engine.docker("image", "inspect", "-f", "{{.Author}}", "settings").stdout == "me@example.com\n"
    container = engine.docker("run", "-d", "-P", "settings", "sleep", "1000").stdout.strip()
    try:
        ports = engine.docker("port", container).stdout
        assert "80/tcp -> " in ports
        assert "90/udp -> " in ports
    finally:
        engine.docker("rm", "-f", container)
    rows = engine.docker(
        "history", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", "settings"
    ).stdout.splitlines()
    # Only RUN and WORKDIR (which made a directory) carry bytes; every instruction has its row.
    assert rows[0].endswith("#(nop)  LABEL from=outside")
    assert [row for row in rows if not row.startswith("0B ") and "#(nop)  " in row] == []
    assert len(rows) >= text.count("\n") - 2


@pytest.mark.row("BLD-20", "BLD-21")
def test_command_and_entrypoint_go_together(engine: Engine, tmp_path: Path) -> None:
    _built(engine, tmp_path, {"Dockerfile": 'FROM busybox\nENTRYPOINT ["echo"]\nCMD ["5"]\n'}, "-t", "pair")
    assert (_run(engine, "pair"), _run(engine, "pair", "10")) == ("5\n", "10\n")
    shell = "FROM pair\nENV X=1\nENTRYPOINT echo shell $X\n"
    _built(engine, tmp_path, {"Dockerfile": shell}, "-t", "shell")
    assert (_run(engine, "shell"), _run(engine, "shell", "ignored")) == ("shell 1\n", "shell 1\n")
    assert not _config(engine, "shell").get("Cmd")
    relative = 'FROM busybox\nWORKDIR /app\nCOPY run.sh .\nENTRYPOINT ["./run.sh"]\n'
    files = {"Dockerfile": relative, "run.sh": "#!/bin/sh\npwd\n"}
    (tmp_path / "run.sh").touch(0o755)
    _built(engine, tmp_path, files, "-t", "relative")
    assert _run(engine, "relative") == "/app\n"


@pytest.mark.row("BLD-23")
def test_volumes_triggers_signals_and_shells(engine: Engine, tmp_path: Path) -> None:
    text = (
        'FROM busybox\nRUN mkdir /data && echo seed > /data/f\nVOLUME ["/data"]\nSTOPSIGNAL SIGQUIT\n'
        'SHELL ["/bin/sh", "-e", "-c"]\nRUN false; true\n'
    )
    done = _build(engine, tmp_path, {"Dockerfile": text})
    assert "The command '/bin/sh -e -c false; true' returned a non-zero code: 1" in done.stderr
    text = text.replace(
        "RUN false; true\n", "RUN echo $- > /flags\nONBUILD COPY name /name\nONBUILD RUN cat /name > /said\n"
    )
    _built(engine, tmp_path, {"Dockerfile": text}, "-t", "parent")
    assert "e" in _run(engine, "parent", "cat", "/flags")
    assert _run(engine, "parent", "cat", "/data/f") == "seed\n"
    assert _config(engine, "parent")["StopSignal"] == "SIGQUIT"
    said = _built(engine, tmp_path, {"Dockerfile": "FROM parent\n", "name": "child\n"}, "-t", "child")
    assert "# Executing 2 build triggers" in said
    assert _run(engine, "child", "cat", "/said") == "child\n"
    assert not _config(engine, "child").get("OnBuild")


@pytest.mark.row("BLD-22")
def test_a_health_check_of_an_image_is_made(engine: Engine, tmp_path: Path) -> None:
    text = "FROM busybox\nHEALTHCHECK --interval=200ms --retries=2 CMD test -e /well\n"
    _built(engine, tmp_path, {"Dockerfile": text}, "-t", "checked")
    _built(engine, tmp_path, {"Dockerfile": "FROM checked\nHEALTHCHECK NONE\n"}, "-t", "unchecked")
    container = engine.docker("run", "-d", "--network", "none", "checked", "sleep", "1000").stdout.strip()
    try:
        state = ("inspect", "-f", "{{.State.Health.Status}}", container)
        until(lambda: engine.docker(*state).stdout == "unhealthy\n", 60)
        engine.docker("exec", container, "touch", "/well")
        until(lambda: engine.docker(*state).stdout == "healthy\n", 60)
    finally:
        engine.docker("rm", "-f", container)
    assert _config(engine, "unchecked")["Healthcheck"]["Test"] == ["NONE"]  # type: ignore[index]  # a JSON document


@pytest.mark.row("BLD-07")
def test_what_dockerignore_names_is_not_in_the_context(engine: Engine, tmp_path: Path) -> None:
    files = {
        "Dockerfile": "FROM busybox\nCOPY . /c/\nRUN cd /c && find . -type f | sort > /list\n",
        ".dockerignore": "# comment\n*.md\n!README.md\n**/tmp\nDockerfile\n",
        "a.md": "",
        "README.md": "",
        "x/b.md": "",
        "x/tmp/c": "",
        "x/d": "",
    }
    _built(engine, tmp_path, files, "-t", "ignoring")
    assert _run(engine, "ignoring", "cat", "/list") == "./.dockerignore\n./README.md\n./x/b.md\n./x/d\n"
    (tmp_path / "Dockerfile.dockerignore").write_text("*\n!x\n")
    done = engine.boxship("build", "-t", "beside", str(tmp_path), check=False)
    assert done.returncode == 0, done.stderr
    listed = _run(engine, "beside", "cat", "/list").splitlines()
    assert "./x/tmp/c" in listed
    assert "./README.md" not in listed
    missing = _build(engine, tmp_path, {"Dockerfile": "FROM busybox\nCOPY a.md /\n"})
    assert (
        "file not found in build context or excluded by .dockerignore: stat a.md: file does not exist" in missing.stderr
    )


@pytest.mark.row("BLD-10", "BLD-15")
def test_heredocs_mounts_and_arguments_reach_programs(engine: Engine, tmp_path: Path) -> None:
    text = (
        "ARG BASE=busybox\nFROM ${BASE} AS tools\nRUN echo tool > /tool\nFROM busybox\nARG WHO=nobody\nARG TARGETARCH\n"
        "RUN <<END\nset -e\necho $WHO > /who\necho $TARGETARCH > /arch\nEND\n"
        "RUN --mount=from=tools,source=/tool,target=/t --mount=type=tmpfs,target=/tmp/x --mount=type=cache,target=/k"
        " --network=none cp /t /copied && touch /tmp/x/y /k/z\n"
        'RUN ["touch", "/exec form"]\nCOPY <<-"A" <<B /d/\n\t$WHO\nA\n$WHO\nB\n'
    )
    said = _built(
        engine, tmp_path, {"Dockerfile": text}, "-t", "heard", "--build-arg", "WHO=me", "--build-arg", "NOPE=1"
    )
    assert "[Warning] One or more build-args [NOPE] were not consumed" in said
    shown = _run(engine, "heard", "sh", "-c", "cat /who /copied /d/A /d/B; ls '/exec form' /tmp /k 2>&1; cat /arch")
    lines = shown.splitlines()
    assert lines[:4] == ["me", "tool", "$WHO", "me"]
    assert "/exec form" in lines
    assert "z" not in lines
    assert lines[-1] in ("amd64", "arm64")
