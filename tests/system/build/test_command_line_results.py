"""``boxship build``: what steps see and nothing keeps, findings alone, and results that are files."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import socket
import subprocess
import tarfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox
from harness.registry import PeerRegistry
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        engine.start()
        import_busybox(engine, "base")
        yield engine
    finally:
        engine.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    return root


def write(project: Path, text: str) -> str:
    (project / "Dockerfile").write_text(text)
    return str(project)


def images(engine: Engine) -> set[str]:
    return set(engine.docker("images", "-aq", "--no-trunc").stdout.split())


# secrets


def test_b6_a_secret_of_our_command_line_is_nowhere_but_in_the_step(
    engine: Engine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_file, in_variable = b"from-a-file-" + os.urandom(12).hex().encode(), f"from-a-variable-{os.urandom(12).hex()}"
    (project.parent / "token").write_bytes(in_file)
    monkeypatch.setenv("G_TOKEN", in_variable)
    context = write(
        project,
        "FROM base\n"
        "ARG PLAIN\n"
        "RUN --mount=type=secret,id=file wc -c < /run/secrets/file\n"
        "RUN --mount=type=secret,id=var,env=TOKEN,required=true echo ${#TOKEN} && test ! -e /run/secrets/file\n"
        'RUN test -z "$TOKEN" && echo plain=$PLAIN\n',
    )
    secrets = ("--secret", f"id=file,src={project.parent}/token", "--secret", "id=var,env=G_TOKEN")
    arguments = ("--build-arg", "PLAIN=argument", "--progress", "plain")
    first = engine.boxship("build", "-t", "b6", *secrets, *arguments, "--metadata-file", f"{project}/m.json", context)
    engine.boxship("build", "-t", "b6", *secrets, "--no-cache", *arguments, context)

    assert f" {len(in_file)}\n" in first.stderr and f" {len(in_variable)}\n" in first.stderr
    assert " plain=argument\n" in first.stderr
    history = engine.docker("history", "--no-trunc", "b6").stdout + engine.docker("inspect", "b6").stdout
    shown = (first.stderr + first.stdout + history + (project / "m.json").read_text()).encode()
    saved = subprocess.run(["docker", "-H", engine.host, "save", "b6"], capture_output=True, check=True).stdout
    for value in (in_file, in_variable.encode()):
        for form in (value, base64.b64encode(value).rstrip(b"=")):
            assert form not in shown and form not in saved
            for root in (engine.data_root, engine.exec_root, engine.log):
                files = [root] if root.is_file() else root.rglob("*")
                assert not [path for path in files if holds(path, form)]


def holds(path: Path, value: bytes) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and value in path.read_bytes()
    except OSError:  # gone meanwhile
        return False


def test_a_secret_may_be_large_and_one_that_is_missing_is_named(engine: Engine, project: Path) -> None:
    (project.parent / "large").write_bytes(b"x" * 90_000)
    (project.parent / "larger").write_bytes(b"x" * 600_000)
    context = write(project, "FROM base\nRUN --mount=type=secret,id=s,required=true wc -c < /run/secrets/s\n")
    large = engine.boxship("build", "--progress", "plain", "--secret", f"id=s,src={project.parent}/large", context)
    assert " 90000\n" in large.stderr
    for arguments, words in (
        ((f"id=s,src={project.parent}/larger",), "secret s too big. max size 500KB"),
        (("id=s,src=/nowhere",), "failed to read secret s: /nowhere: no such file or directory"),
        (("id=s,env=G_NOT_SET",), "secret s: environment variable G_NOT_SET is not set"),
        (("src=x",), "secret missing 'id'"),
        (("id=s,colour=red",), "unexpected key 'colour' in 'colour=red'"),
    ):
        done = engine.boxship("build", "--secret", *arguments, context, check=False)
        assert done.returncode == 1 and words in done.stderr
    done = engine.boxship("build", "--no-cache", context, check=False)
    assert done.returncode == 1 and "secret s: not found" in done.stderr


def test_a_step_reaches_the_agent_whose_socket_is_named(engine: Engine, project: Path) -> None:
    place = str(project.parent / "agent")
    context = write(
        project,
        "FROM base\n"
        "RUN --mount=type=ssh,required=true test -S $SSH_AUTH_SOCK && echo agent at $SSH_AUTH_SOCK\n"
        'RUN test -z "$SSH_AUTH_SOCK" && test ! -S /run/buildkit/ssh_agent.0\n',
    )
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(place)
        agent.listen()
        done = engine.boxship("build", "--progress", "plain", "--ssh", f"default={place}", context)
        assert " agent at /run/buildkit/ssh_agent.0\n" in done.stderr
    key = engine.boxship("build", "--ssh", f"default={context}/Dockerfile", context, check=False)
    assert key.returncode == 1 and "it is no private key" in key.stderr
    without = engine.boxship("build", "--no-cache", context, check=False)
    assert without.returncode == 1 and "unset ssh forward key default" in without.stderr


# findings


@pytest.mark.row("BLD-33")
def test_findings_alone_are_shown_as_docker_does_and_nothing_is_built(engine: Engine, project: Path) -> None:
    context = write(project, "FROM base as one\nMAINTAINER me\nRUN exit 3\n")
    before = images(engine)
    done = engine.boxship("build", "--check", "-t", "never", context, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "Check complete, 2 warnings have been found!\n"
        "\nWARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/from-as-casing/\n"
        "'as' and 'FROM' keywords' casing do not match\n"
        "Dockerfile:1\n--------------------\n"
        "   1 | >>> FROM base as one\n   2 |     MAINTAINER me\n   3 |     RUN exit 3\n--------------------\n"
        "\nWARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/\n"
        "Maintainer instruction is deprecated in favor of using label\n"
        "Dockerfile:2\n--------------------\n"
        "   1 |     FROM base as one\n   2 | >>> MAINTAINER me\n   3 |     RUN exit 3\n   4 |\n--------------------\n"
    )
    assert images(engine) == before

    write(project, "# check=error=true\nFROM base\nMAINTAINER me\n")
    failing = engine.boxship("build", "--call=check", context, check=False)
    assert failing.returncode == 1 and failing.stdout.startswith("Check complete, 1 warning has been found!\n")
    refused = engine.boxship("build", context, check=False)
    assert refused.returncode == 1 and "lint violation found for rules: MaintainerDeprecated" in refused.stderr
    write(project, "FROM base\nRUN exit 3\n")
    assert engine.boxship("build", "--check", context).stdout == "Check complete, no warnings found.\n"
    write(project, "FROM base\nRUNN exit 3\n")
    wrong = engine.boxship("build", "--check", context, check=False)
    assert wrong.returncode == 1 and "unknown instruction: RUNN" in wrong.stderr
    write(project, "# check=experimental=all\nFROM base\nCOPY left.out /\n")
    (project / ".dockerignore").write_text("*.out\n")
    ignored = engine.boxship("build", "--check", context, check=False)
    assert "WARNING: CopyIgnoredFile" in ignored.stdout
    assert images(engine) == before


# results


RESULT = "FROM base AS made\nRUN mkdir /out && echo content > /out/file && chmod 750 /out/file && ln -s file /out/link\nFROM scratch\nCOPY --from=made /out /\n"


def test_the_result_is_files_in_a_directory(engine: Engine, project: Path) -> None:
    context, target = write(project, RESULT), project.parent / "result"
    target.mkdir()
    (target / "kept").write_text("kept")
    engine.boxship("build", "-o", str(target), context)
    assert sorted(os.listdir(target)) == ["file", "kept", "link"]
    assert (target / "file").read_text() == "content\n" and (target / "file").stat().st_mode & 0o777 == 0o750
    assert os.readlink(target / "link") == "file"
    engine.boxship("build", "--output", f"type=local,dest={target}/new/deep", context)
    assert sorted(os.listdir(target / "new/deep")) == ["file", "link"]


def test_the_result_is_a_tar_on_stdout_or_in_a_file(engine: Engine, project: Path) -> None:
    context, target = write(project, RESULT), project.parent / "result.tar"
    engine.boxship("build", "-o", f"type=tar,dest={target}", context)
    with tarfile.open(target) as tar:
        assert sorted(tar.getnames()) == ["file", "link"] and tar.getmember("file").uid == 0
    done = engine.boxship("build", "-q", "-o", "-", context)
    with tarfile.open(fileobj=io.BytesIO(done.stdout.encode("utf-8", "surrogateescape"))) as tar:
        assert sorted(tar.getnames()) == ["file", "link"]
    write(project, "FROM scratch\nLABEL a=b\n")
    engine.boxship("build", "-o", f"type=tar,dest={target}", context)
    with tarfile.open(target) as tar:
        assert tar.getnames() == []


def test_the_result_is_an_archive_that_can_be_loaded(engine: Engine, project: Path) -> None:
    context, target = write(project, RESULT), project.parent / "image.tar"
    metadata, id = project.parent / "metadata.json", project.parent / "id"
    engine.boxship(
        *("build", "-t", "archived", "-o", f"type=oci,dest={target}", "--metadata-file", str(metadata)),
        *("--iidfile", str(id), context),
    )
    with tarfile.open(target) as tar:
        assert {"index.json", "oci-layout", "manifest.json"} <= set(tar.getnames())
    assert json.loads(metadata.read_text()) == {
        "containerimage.config.digest": id.read_text(),
        "containerimage.digest": id.read_text(),
        "image.name": "archived:latest",
    }
    engine.docker("rmi", "archived")
    assert "Loaded image: archived:latest" in engine.docker("load", "-i", str(target)).stdout
    engine.boxship("build", "-o", "type=image,name=named:1", "--load", context)
    assert engine.docker("image", "inspect", "named:1", "-f", "{{.Id}}").stdout == id.read_text() + "\n"


def test_the_result_goes_to_a_registry(engine: Engine, project: Path) -> None:
    context = write(project, RESULT)
    try:
        registry = PeerRegistry(engine.namespace)
    except RuntimeError as exc:
        pytest.skip(str(exc))
    try:
        name = f"{registry.host}/pushed:1"
        id = engine.boxship("build", "-q", "--push", "-t", name, context).stdout
        engine.boxship("build", "-o", f"type=image,name={registry.host}/pushed:2,push=true", context)
        engine.docker("rmi", name, f"{registry.host}/pushed:2")
        for tag in ("1", "2"):
            engine.docker("pull", "-q", f"{registry.host}/pushed:{tag}")
        assert engine.docker("image", "inspect", name, "-f", "{{.Id}}").stdout == id
    finally:
        registry.close()
    refused = engine.boxship("build", "--push", "-t", name, context, check=False)
    assert refused.returncode == 1 and "connection refused" in refused.stderr


@pytest.mark.row("BLD-01")
def test_a_dockerfile_and_a_context_come_from_where_one_says(
    engine: Engine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "f").write_text("of the context\n")
    other = project.parent / "other.dockerfile"
    other.write_text("FROM base\nCOPY f /f\n")
    engine.boxship("image", "build", "--tag=where:1", "-f", str(other), str(project))
    assert engine.docker("run", "--rm", "where:1", "cat", "/f").stdout == "of the context\n"
    engine.boxship("builder", "build", "-t", "where:2", "-", input="FROM base\nRUN echo stdin > /f\n")
    assert engine.docker("run", "--rm", "where:2", "cat", "/f").stdout == "stdin\n"
    engine.boxship("build", "-t", "where:3", "-f", "-", str(project), input="FROM base\nCOPY f /g\n")
    assert engine.docker("run", "--rm", "where:3", "cat", "/g").stdout == "of the context\n"
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    classic = engine.boxship("build", "-t", "where:4", "-f", str(other), str(project)).stdout
    assert classic.startswith("Sending build context to Docker daemon  3.072kB\n\nStep 1/2 : FROM base\n")
    assert classic.endswith("Successfully tagged where:4\n")


def test_hostile_links_in_a_result_do_not_lead_out_of_the_directory(engine: Engine, project: Path) -> None:
    context, target = write(project, RESULT), project.parent / "target"
    outside = project.parent / "outside"
    outside.mkdir()
    write(
        project,
        f"FROM base AS made\nRUN mkdir /out && ln -s {outside} /out/dir\nFROM scratch\nCOPY --from=made /out /\n",
    )
    engine.boxship("build", "-o", str(target), context)
    assert os.readlink(target / "dir") == str(outside)
    write(
        project,
        "FROM base AS made\nRUN mkdir -p /out/dir && echo x > /out/dir/x\nFROM scratch\nCOPY --from=made /out /\n",
    )
    engine.boxship("build", "-o", str(target), context, check=False)
    assert os.listdir(outside) == []


def test_files_that_nobody_reads_any_more_are_not_held(engine: Engine, project: Path) -> None:
    context = write(project, "FROM base\nRUN head -c 20000000 /dev/urandom > /big\n")
    id = engine.boxship("build", "-q", "-t", "left", context).stdout.strip()
    assert engine.process is not None
    descriptors = f"/proc/{engine.process.pid}/fd"

    def pipes() -> set[str]:
        found = set()
        for name in os.listdir(descriptors):
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(f"{descriptors}/{name}"))
        return {each for each in found if each.startswith("pipe:")}

    before = pipes()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(engine.socket))
        client.sendall(f"GET /boxship/build/files?image={id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        until(lambda: pipes() - before, 40)  # it waits for the client now
        its = pipes() - before
    until(lambda: not its & pipes(), 40)
    engine.docker("rmi", "left")
    gone = engine.api("GET", f"/boxship/build/files?image={id}")
    assert gone[0] == 404 and "No such image" in json.dumps(gone[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "type=local"), "dest is required for local exporter"),
        (("-o", "type=local,dest=-"), "dest cannot be stdout for local exporter"),
        (("-o", "/etc/passwd"), 'destination directory "/etc/passwd" is a file'),
        (("-o", "type=tar,dest=/etc"), 'destination file "/etc" is a directory'),
        (("-o", "type=floppy"), "unsupported output type floppy"),
        (("-o", "dest=x,name=y"), "type is required for output"),
        (("-o", "type=oci,compression=zstd"), "--output type=oci: compression is not supported"),
        (("-o", "-", "-o", "type=oci"), "only one output can be written to stdout"),
        (("--push",), "tag is needed when pushing to registry"),
        (("--call", "paint"), "unsupported method paint"),
        (("--cache-to", "type=gha"), "could not parse cache exporter: unknown cache exporter: 'gha'"),
        (("--cache-from", "type=local"), "local cache importer requires src"),
        (("--build-context", "x=https://x/y.git"), "only directories and images (docker-image://NAME) are supported"),
        (("--build-context", "x=/nowhere"), "/nowhere is no directory"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(
    engine: Engine, project: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = engine.boxship("build", *arguments, write(project, "FROM base\n"), check=False)
    assert done.returncode in (1, 125) and words in done.stderr
    assert "[1/1]" not in done.stderr


@pytest.mark.row("BLD-29")
@pytest.mark.row("BLD-06")
def test_flags_say_what_is_built_and_what_the_cache_may_give(engine: Engine, project: Path) -> None:
    text = "FROM base AS first\nRUN echo one > /one\nFROM base AS second\nCOPY --from=first /one /one\nRUN echo two\nFROM missing\n"
    context = write(project, text)
    flags = (
        "--target",
        "second",
        "--label",
        "by=flags",
        "--platform",
        "linux/amd64",
        "--rm=false",
        "--progress",
        "plain",
    )
    engine.boxship("build", *flags, "-t", "flags", context)
    assert (
        engine.docker("image", "inspect", "flags", "-f", "{{.Config.Labels.by}} {{.Architecture}}").stdout
        == "flags amd64\n"
    )
    assert engine.boxship("build", *flags, context).stderr.count("CACHED") == 3
    again = engine.boxship("build", *flags, "--no-cache-filter", "first", context).stderr
    assert again.count("CACHED") < 3 and "[second 3/3] RUN echo two" in again
    id = engine.boxship("build", "-q", *flags, context).stdout
    assert id == engine.docker("image", "inspect", "flags", "-f", "{{.Id}}").stdout


def test_a_context_of_ones_own_stands_for_an_image_or_a_directory(engine: Engine, project: Path) -> None:
    other = project.parent / "other"
    (other / "deep").mkdir(parents=True)
    (other / "deep/file").write_text("from elsewhere\n")
    (other / "deep/out.log").write_text("ignored")
    (other / ".dockerignore").write_text("**/*.log\n")
    os.link(other / "deep/file", other / "linked")
    (project / "own").write_text("own\n")
    context = write(
        project,
        "FROM system\nCOPY --from=second /bin/busybox /copied\nCOPY --from=files . /files/\nCOPY . /all/\n"
        "RUN --mount=type=bind,from=files,target=/m test -f /copied && cat /m/deep/file && ls -a /all /files/*\n",
    )
    images = ("--build-context", "system=docker-image://base", "--build-context", "second=docker-image://base")
    arguments = ("--progress", "plain", *images, "--build-context", f"files={other}")
    first = engine.boxship("build", *arguments, context).stderr
    lines = [line.split(" ", 2)[2] for line in first.splitlines() if line.startswith("#") and line.count(" ") > 1]
    assert "from elsewhere" in lines and "own" in lines and "/files/linked" in lines
    assert "out.log" not in first and "boxship-context" not in first
    assert engine.boxship("build", *arguments, context).stderr.count("CACHED") == 4
    (other / "deep/file").write_text("changed\n")
    assert "changed" in engine.boxship("build", *arguments, context).stderr
    write(project, "FROM files\n")
    base = engine.boxship("build", *arguments, context, check=False)
    assert base.returncode == 1 and "the context files is a directory, a stage begins with an image" in base.stderr
    alone = engine.boxship("build", *arguments, "-", input="FROM files\n", check=False)
    assert alone.returncode == 1 and "needs a directory as PATH" in alone.stderr


@pytest.mark.parametrize("value", ["", ".", "..", "/", "Dockerfile", "missing", "git://x/y.git"])
def test_a_context_that_did_not_come_is_an_error(engine: Engine, value: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry, text = tarfile.TarInfo("Dockerfile"), b"FROM base\nCOPY --from=x . /\n"
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(engine.socket))
    contexts = urllib.parse.quote(json.dumps({"x": value}))
    connection.request("POST", f"/boxship/build?buildcontexts={contexts}", archive.getvalue())
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    assert answer.status == 400 and ("did not come with the build" in body or "unsupported context source" in body)
