"""The context of ``build``: which one is meant, what goes into the archive, and the parameters of the call."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from boxship.cli.building import context as contexts
from boxship.cli.building.caches import parse_imports
from boxship.cli.building.packing import pack_files
from boxship.cli.building.query import build_query
from boxship.cli.command import ExitError
from boxship.cli.commands.images.build import FLAGS
from boxship.cli.flags import parse


def archive(context: contexts.Context) -> tarfile.TarFile:
    assert context.body is not None
    return tarfile.open(fileobj=io.BytesIO(b"".join(context.body)))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "src/deep").mkdir(parents=True)
    (root / "Dockerfile").write_text("FROM scratch\n")
    (root / "src/a.c").write_text("a")
    (root / "src/deep/b.log").write_text("b")
    (root / "link").symlink_to("/etc/passwd")
    os.link(root / "src/a.c", root / "src/hard.c")
    return root


def test_a_directory_is_packed_in_order_and_belongs_to_root(project: Path) -> None:
    os.chown(project / "src/a.c", 12, 34) if os.geteuid() == 0 else None
    found = archive(contexts.open_context(str(project), ""))
    assert found.getnames() == ["Dockerfile", "link", "src", "src/a.c", "src/deep", "src/deep/b.log", "src/hard.c"]
    assert {(member.uid, member.gid) for member in found} == {(0, 0)}
    assert found.getmember("link").linkname == "/etc/passwd"
    assert found.getmember("src/hard.c").linkname == "src/a.c"


def test_equal_directories_give_equal_streams(project: Path) -> None:
    streams = [contexts.open_context(str(project), "").body for _ in range(2)]
    first, second = (b"".join(body or ()) for body in streams)
    assert first == second


def test_what_is_ignored_stays_here_but_the_dockerfile_and_the_list_go_along(project: Path) -> None:
    (project / ".dockerignore").write_text("**/*.log\nDockerfile\n.dockerignore\nsrc\n!src/a.c\n")
    names = archive(contexts.open_context(str(project), "")).getnames()
    assert names == [".dockerignore", "Dockerfile", "link", "src/a.c"]


def test_a_list_beside_the_dockerfile_goes_before_the_directorys(project: Path) -> None:
    (project / ".dockerignore").write_text("src\n")
    (project / "Dockerfile.dockerignore").write_text("link\n")
    names = archive(contexts.open_context(str(project), "")).getnames()
    assert "link" not in names and "src/a.c" in names


def test_a_dockerfile_from_elsewhere_travels_under_a_name_of_its_own(project: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("FROM busybox\n")
    context = contexts.open_context(str(project), str(tmp_path / "other"))
    member = archive(context).extractfile(context.dockerfile)
    assert context.dockerfile.startswith(".dockerfile.") and member is not None
    assert member.read() == b"FROM busybox\n"


@pytest.mark.parametrize(
    ("argument", "file", "message"),
    [
        ("nodir", "", 'unable to prepare context: path "nodir" not found'),
        ("{root}/Dockerfile", "", "unable to prepare context: context must be a directory: {root}/Dockerfile"),
        (
            "{root}",
            "nope",
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {cwd}/nope: "
            "no such file or directory",
        ),
        ("-", "-", "invalid argument: can't use stdin for both build context and dockerfile"),
    ],
)
def test_what_cannot_be_a_context(project: Path, argument: str, file: str, message: str) -> None:
    shown = {"root": str(project), "cwd": os.getcwd()}
    with pytest.raises(ExitError) as raised:
        contexts.open_context(argument.format(**shown), file)
    assert raised.value.text == message.format(**shown)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Let the command read these bytes from its standard input."""

    def feed(data: bytes) -> None:
        fd = os.memfd_create("stdin")
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        monkeypatch.setattr(contexts, "STDIN", fd)

    return feed


def test_a_dockerfile_on_stdin_is_a_context_of_one_file(stdin: Callable[[bytes], None]) -> None:
    stdin(b"FROM busybox\n" * 100)
    context = contexts.open_context("-", "")
    assert archive(context).getnames() == ["Dockerfile"]


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_on_stdin_goes_on_as_it_is(stdin: Callable[[bytes], None], compressed: bool) -> None:
    data = pack_files({"Dockerfile": b"FROM x"})
    if compressed:
        import gzip

        data = gzip.compress(data)
    stdin(data)
    assert b"".join(contexts.open_context("-", "").body or ()) == data


def test_urls_and_repositories_are_the_engines_to_fetch() -> None:
    for argument in ("https://host/x.git#main:sub", "http://host/Dockerfile", "git@host:a/b", "github.com/a/b"):
        assert contexts.open_context(argument, "").remote == argument


def test_flags_become_the_parameters_that_docker_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_ENV", "7")
    words = "--build-arg A=1 --build-arg FROM_ENV --build-arg NOT_SET -t x:y -t z --ulimit nofile=1:2 --label a=b"
    words += " --add-host h:1.2.3.4 -m 100m --memory-swap -1 --rm=false --network host --no-cache"
    imports = parse_imports(["q"])
    imports.documents.clear()
    found = parse_qs(build_query(parse(FLAGS, words.split()), dockerfile="d", remote="", imports=imports))
    assert found == {
        "buildargs": ['{"A":"1","FROM_ENV":"7","NOT_SET":null}'],
        "cachefrom": ['["q"]'],
        "dockerfile": ["d"],
        "extrahosts": ["h:1.2.3.4"],
        "labels": ['{"a":"b"}'],
        "memory": ["104857600"],
        "memswap": ["-1"],
        "networkmode": ["host"],
        "nocache": ["1"],
        "rm": ["0"],
        "t": ["x:y", "z"],
        "ulimits": ['[{"Name":"nofile","Hard":2,"Soft":1}]'],
        "version": ["1"],
    }
