"""Contexts: what ``update``, ``export`` and ``import`` do, and that docker and we read each other's archives."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from boxship.cli.commands.system.context_archive import LIMIT


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -keyout /dev/null -out"
    )
    subprocess.run([*command.split(), str(path)], check=True, capture_output=True)
    return path


@pytest.mark.row("CLI-05")
def test_update_changes_what_is_named_and_leaves_the_rest(boxship, certificate: Path) -> None:
    boxship("context", "create", "one", "--description", "old", "--docker", f"host=tcp://h:1,ca={certificate}")
    assert boxship("context", "update", "one", "--description", "new") == (
        0,
        "one\n",
        'Successfully updated context "one"\n',
    )
    shown = "{{json .Metadata}} {{.Endpoints.docker.Host}} {{json .TLSMaterial}}"
    assert (
        boxship("context", "inspect", "one", "-f", shown)[1]
        == '{"Description":"new"} tcp://h:1 {"docker":["ca.pem"]}\n'
    )
    boxship("context", "update", "one", "--docker", "host=ssh://u@h")
    assert boxship("context", "inspect", "one", "-f", shown)[1] == '{"Description":"new"} ssh://u@h {}\n'


@pytest.mark.row("CLI-05")
@pytest.mark.parametrize("there_and_back", [("boxship", "docker"), ("docker", "boxship"), ("boxship", "boxship")])
def test_an_exported_context_is_imported_whole_by_both(
    request: pytest.FixtureRequest, there_and_back: tuple[str, str], certificate: Path, tmp_path: Path
) -> None:
    exporter, importer = (request.getfixturevalue(name) for name in there_and_back)
    file = str(tmp_path / "one.tar")
    exporter("context", "create", "one", "--description", "d", "--docker", f"host=tcp://h:1,ca={certificate}")
    assert exporter("context", "export", "one", file) == (0, "", f'Written file "{file}"\n')
    assert exporter("context", "export", "one", file)[::2] == (1, f"open {file}: file exists\n")
    assert importer("context", "import", "two", file) == (0, "two\n", 'Successfully imported context "two"\n')
    shown = "{{.Endpoints.docker.Host}} {{json .TLSMaterial}}"
    assert importer("context", "inspect", "two", "-f", shown)[1] == 'tcp://h:1 {"docker":["ca.pem"]}\n'
    assert importer("context", "ls", "--format", "{{.Name}} {{.Description}}")[1].endswith("two d\n")
    assert importer("context", "import", "two", file)[::2] == (1, 'context "two" already exists\n')


@pytest.mark.row("CLI-05")
def test_export_and_import_go_through_pipes(boxship) -> None:
    boxship("context", "create", "one", "--docker", "host=ssh://u@h")
    archive = boxship("context", "export", "one", "-")[1].encode()
    assert boxship("context", "import", "two", "-", stdin=archive)[0] == 0
    assert boxship("context", "inspect", "two", "-f", "{{.Endpoints.docker.Host}}")[1] == "ssh://u@h\n"


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, '{"Endpoints":{"docker":{"Host":"ssh://z"}}}' if name == "meta.json" else "x")
    return buffer.getvalue()


def tarred(name: str, *, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.row("CLI-05")
def test_a_zip_file_is_a_context_too(boxship, tmp_path: Path) -> None:
    (tmp_path / "c.zip").write_bytes(zipped("meta.json", "tls/docker/ca.pem"))
    assert boxship("context", "import", "three", str(tmp_path / "c.zip"))[0] == 0
    assert boxship("context", "inspect", "three", "-f", "{{.Endpoints.docker.Host}}")[1] == "ssh://z\n"


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"nothing", "invalid context: no metadata found\n"),
        (b"x" * 1024, "archive/tar: invalid tar header\n"),
        (tarred("tls/../../escape"), "tls/../../escape: unexpected context file\n"),
        (tarred("tls/../escape"), "tls/../escape: unexpected context file\n"),
        (tarred("meta.json", kind=tarfile.SYMTYPE), "meta.json: unexpected context file\n"),
        (zipped("meta.json", "other"), "other: unexpected context file\n"),
        (bytes(LIMIT + 1), "read exceeds the defined limit\n"),
    ],
)
def test_an_archive_that_is_no_context_leaves_nothing(boxship, tmp_path: Path, archive: bytes, words: str) -> None:
    (tmp_path / "archive").write_bytes(archive)
    code, _, error = boxship("context", "import", "four", str(tmp_path / "archive"))
    assert (code, error) in ((1, words), (1, "archive/tar: invalid tar header\n"))
    assert boxship("context", "ls", "-q")[1] == "default\n"
    assert not list(tmp_path.rglob("*.pem"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("context update default --description x", '"default" is a reserved context name\n'),
        (
            "context update one --docker bad=1",
            "unable to create docker endpoint config: unrecognized config key: bad\n",
        ),
        ("context create two --docker host=foo://x", "unable to create docker endpoint config: invalid bind address"),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(boxship, line: str, words: str) -> None:
    boxship("context", "create", "one", "--docker", "host=ssh://u@h")
    code, out, error = boxship(*line.split())
    assert (code, out) == (1, "")
    assert error.startswith(words)
