"""``docker commit``, ``diff`` and ``export``, beside what the real Docker gives for the same actions."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.dockerd import Dockerd
from harness.engine import Engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

ACTIONS = (
    "echo new > /new; mkdir -p /dir/sub; echo x > /dir/sub/f; rm /etc/group; chmod 600 /etc/passwd; ln -s /nope /link; "
    "mkfifo /fifo; rm -r /home; mkdir /home; echo again > /home/h; echo v > /vol/v; echo t > /tm/t; echo h >> /etc/hosts; "
    "touch /dev/shm/s; : > /done; sleep 1000"
)

# Everything that may happen to what an image brought, in its directory /img.
CHANGES = r"""
set -e; cd /img
mv renamed newname; mv moved elsewhere
rm -r opaque; mkdir opaque; echo n > opaque/n
chmod 700 mode; chown 5:6 owner; touch -d '2020-01-01 00:00:00' time timed; chmod 711 .; chmod 755 .
rm recreated; cp keep recreated; echo same > same
rm tolink; ln -s keep tolink; rm todir; mkdir todir; echo x > todir/x; rm -r tofile; echo x > tofile
rm -r gone; rm sub/deep/f1; echo more >> sub/deep/f2
ln keep hard; mknod null c 1 3; mkfifo fifo; rm device; mknod device c 1 5
mkdir -p a/b/c; rmdir a/b/c; echo t > /tmp/t; rm /tmp/t
echo v > /vol/v; echo t > /tm/t; echo z > /bound/z; echo h >> /etc/hosts
: > /done; sleep 100000
"""
DIRECTORIES = ("renamed/in", "opaque/old", "timed", "tofile/in", "gone/in", "sub/deep", "untouched")
FILES = (
    "renamed/in/f",
    "moved",
    "opaque/o",
    "mode",
    "owner",
    "time",
    "recreated",
    "same",
    "keep",
    "tolink",
    "todir",
    "tofile/in/f",
    "gone/in/f",
    "sub/deep/f1",
    "sub/deep/f2",
    "untouched/f",
    "device",
)
INSTRUCTIONS = [
    ("CMD a b",),
    ('CMD ["a", "b"]',),
    ("CMD",),
    ("CMD []",),
    ("ENTRYPOINT a b",),
    ('ENTRYPOINT ["x"]', "CMD y"),
    ("CMD y", 'ENTRYPOINT ["x"]'),
    ("ENTRYPOINT []",),
    ('ENV A=1 B="two words" C=$Z-${N:-y}-${Z:+w} D=\\$Z',),
    ("ENV OLD  form  of $Z", "env A='$Z'\nENV B=b"),
    ("EXPOSE 80 90/udp 100-102 8$Z",),
    ('LABEL a=b c="d e" $Z=$Z',),
    ("ONBUILD RUN x $Z",),
    ("USER u$Z:g",),
    ("VOLUME /a /b$Z", 'VOLUME ["/c d"]'),
    ("WORKDIR rel", "WORKDIR $Z/x"),
    ("HEALTHCHECK --interval=5s --timeout=2s --retries=3 --start-period=1s CMD echo $Z",),
    ("HEALTHCHECK NONE",),
    *(
        (text,)
        for text in ("RUN x", "FROM x", "COPY a b", "ARG a", "MAINTAINER me", "NONSENSE", "", "# only a comment")
    ),
    *(
        (text,)
        for text in ("ENV", "ENV A", 'ENV A="x', "ENV A=${}", "EXPOSE x", "EXPOSE 70000", "LABEL x", "USER", "VOLUME")
    ),
    *(
        (text,)
        for text in ("WORKDIR", "HEALTHCHECK", "HEALTHCHECK FOO x", "ONBUILD", "ONBUILD FROM x", "EXPOSE 80/foo")
    ),
]


def act(docker: Callable[..., object]) -> None:
    """Start the container ``act`` and return when it has done its actions."""
    docker("run", "-d", "--name", "act", "-v", "/vol", "--tmpfs", "/tm", "busybox", "sh", "-c", ACTIONS)
    docker("exec", "act", "sh", "-c", "until [ -e /done ]; do :; done")


@pytest.fixture(scope="module")
def dockerd(dockerd: Dockerd) -> Dockerd:
    """The peer, after the actions."""
    act(dockerd.docker)
    return dockerd


def listing(path: Path) -> dict[str, tuple[bytes, int, int, str]]:
    """Return type, mode, size and link of all entries of a tar."""
    with tarfile.open(path) as tar:
        return {
            entry.name: (
                entry.type,
                entry.mode & 0o7777,
                entry.size if entry.name != "etc/passwd" else 0,
                entry.linkname,
            )
            for entry in tar
        }


@pytest.mark.row("RUN-31", "RUN-32", "RUN-33")
def test_diff_export_and_commit_equal_dockers(engine: Engine, dockerd: Dockerd, tmp_path: Path) -> None:
    act(engine.docker)
    shown: list[list[str]] = []
    exported, layers, steps = [], [], []
    for number, docker in enumerate((dockerd.docker, engine.docker)):
        shown.append(sorted(docker("diff", "act").stdout.splitlines()))
        docker("export", "-o", str(tmp_path / f"{number}.tar"), "act")
        exported.append(listing(tmp_path / f"{number}.tar"))
        docker("commit", "-m", "said", "-a", "me", "-c", "ENV a=b", "act", "committed:1")
        docker("save", "-o", str(tmp_path / f"{number}.image"), "committed:1")
        with tarfile.open(tmp_path / f"{number}.image") as image:
            manifest = json.load(image.extractfile("manifest.json") or io.BytesIO())[0]
            top = image.extractfile(manifest["Layers"][-1])
            assert top is not None
            (tmp_path / f"{number}.layer").write_bytes(top.read())
            config = json.load(image.extractfile(manifest["Config"]) or io.BytesIO())
        layers.append(listing(tmp_path / f"{number}.layer"))
        step = config["history"][-1]
        steps.append((step["created_by"], step.get("comment"), step.get("author"), config["config"]["Env"][-1]))
    assert shown[0] == shown[1]
    assert exported[0] == exported[1]
    assert layers[0] == layers[1]
    assert steps[0] == steps[1]


def changed_image() -> bytes:
    """Return the tar of an image's directory ``/img`` for CHANGES."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        directories = {str(path) for name in DIRECTORIES for path in (Path(name), Path(name).parent)}
        for name in sorted(directories):
            entry = tarfile.TarInfo(f"img/{name}")
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, 1_600_000_000
            tar.addfile(entry)
        for name in FILES:
            entry = tarfile.TarInfo(f"img/{name}")
            entry.size, entry.mtime = len(name), 1_600_000_000
            tar.addfile(entry, io.BytesIO(name.encode()))
    return buffer.getvalue()


def contents(path: Path) -> dict[str, tuple[object, ...]]:
    """Return what there is to know of a tar's entries; of the marks of a deletion only their names count."""
    with tarfile.open(path) as tar:
        return {
            entry.name: ()
            if ".wh." in entry.name
            else (entry.type, entry.mode & 0o7777, entry.uid, entry.gid, entry.size, entry.linkname)
            + ((entry.devmajor, entry.devminor) if entry.isdev() else ())
            + ((int(entry.mtime),) if entry.mtime < 1_700_000_000 else ())
            for entry in tar
        }


def top_layer(docker: Callable[..., object], image: str, directory: Path) -> Path:
    """Save an image and return its last layer's tar."""
    docker("save", "-o", str(directory / "image.tar"), image)
    with tarfile.open(directory / "image.tar") as tar:
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())[0]
        layer = tar.extractfile(manifest["Layers"][-1])
        assert layer is not None
        (directory / "layer.tar").write_bytes(layer.read())
    return directory / "layer.tar"


@pytest.mark.row("RUN-31", "RUN-32", "RUN-33")
def test_all_changes_of_an_images_files_are_told_exported_and_committed_as_with_docker(
    engine: Engine, dockerd: Dockerd, tmp_path: Path
) -> None:
    (tmp_path / "base.tar").write_bytes(changed_image())
    shown = []
    for number, peer in enumerate((dockerd, engine)):
        docker, place = peer.docker, tmp_path / str(number)
        (place / "bound").mkdir(parents=True)
        unpack = ("tar", "x", "-C", "/", "-f", "/in/base.tar")
        docker("run", "--name", "base", "-v", f"{tmp_path}:/in:ro", "busybox", *unpack)
        docker("commit", "base", "changed")
        mounts = ("-v", "/vol", "-v", f"{place}/bound:/bound", "--tmpfs", "/tm")
        docker("run", "-d", "--name", "all", *mounts, "changed", "sh", "-c", CHANGES)
        docker("exec", "all", "sh", "-c", "until [ -e /done ]; do :; done")
        found: dict[str, object] = {}
        for state, words in (("running", ()), ("paused", ("pause", "all")), ("stopped", ("kill", "all"))):
            if words:
                docker(*words)
            docker("export", "-o", str(place / "export.tar"), "all")
            docker("commit", "all", "all:1")
            found[f"diff {state}"] = sorted(docker("diff", "all").stdout.splitlines())
            found[f"export {state}"] = contents(place / "export.tar")
            found[f"layer {state}"] = contents(top_layer(docker, "all:1", place))
        shown.append(found)
        docker("rm", "-f", "-v", "all", "base")
        docker("rmi", "all:1", "changed")
    for key, expected in shown[0].items():
        assert shown[1][key] == expected, key


@pytest.mark.row("RUN-33")
def test_every_instruction_changes_a_commit_as_with_docker(engine: Engine, dockerd: Dockerd) -> None:
    found: list[list[object]] = []
    options = ("-e", "Z=1", "-w", "/w", "--entrypoint", "old")
    for peer in (dockerd, engine):
        peer.docker("create", "--name", "instructed", *options, "busybox", "argument")
        outcomes: list[object] = []
        for instructions in INSTRUCTIONS:
            words = [word for text in instructions for word in ("-c", text)]
            done = peer.docker("commit", *words, "instructed", "instructed:1", check=False)
            if done.returncode:
                outcomes.append((done.returncode, done.stderr))
            else:
                outcomes.append(json.loads(peer.docker("inspect", "-f", "{{json .Config}}", "instructed:1").stdout))
        found.append([_told(outcome) for outcome in outcomes])
        peer.docker("rm", "instructed")
        peer.docker("rmi", "-f", "instructed:1")
    assert dict(zip(INSTRUCTIONS, found[1], strict=True)) == dict(zip(INSTRUCTIONS, found[0], strict=True))


def _told(outcome: object) -> object:
    """Return what is set of a configuration, without the fields that images no longer have (API 1.50)."""
    if not isinstance(outcome, dict):
        return outcome
    gone = ("AttachStdout", "AttachStderr", "Hostname", "Image")
    return {key: value for key, value in outcome.items() if value and key not in gone}


@pytest.mark.row("RUN-33")
@pytest.mark.parametrize("state", ["running", "paused", "stopped"])
def test_the_committed_image_runs_with_the_same_files(cli: Cli, engine: Engine, state: str) -> None:
    act(engine.docker)
    if state == "stopped":
        engine.docker("kill", "act")
    elif state == "paused":
        engine.docker("pause", "act")
    id = cli("commit", "-c", 'CMD ["cat", "/new", "/dir/sub/f", "/home/h"]', "act", "again").stdout.strip()
    assert id.startswith("sha256:") and len(id) == 71
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "act").stdout.strip() in (state, "exited")
    assert engine.docker("run", "--rm", "again").stdout == "new\nx\nagain\n"
    assert engine.docker("run", "--rm", "again", "ls", "/vol", "/tm", "/etc/group", check=False).stdout.split() == [
        "/tm:",
        "/vol:",
    ]
    parent = engine.docker("inspect", "-f", "{{.Parent}}", "again").stdout.strip()
    assert parent == engine.docker("inspect", "-f", "{{.Id}}", "busybox").stdout.strip()
    engine.docker("rm", "-f", "act")
    engine.docker("rmi", "again")


@pytest.mark.row("RUN-33")
def test_commit_keeps_the_containers_configuration_and_says_what_happened(cli: Cli, engine: Engine) -> None:
    engine.docker(
        "create", "--name", "act", "-e", "A=1", "-w", "/tmp", "-u", "app", "--label", "l=m", "busybox", "true"
    )
    id = cli(
        "commit", "-a", "me <m@x>", "-m", "why", "-c", "ENV B=2", "-c", "EXPOSE 80", "act", "kept:2"
    ).stdout.strip()
    (image,) = json.loads(engine.docker("inspect", "kept:2").stdout)
    config = image["Config"]
    assert (config["Env"], config["WorkingDir"], config["User"], config["Cmd"]) == (
        ["A=1", "B=2"],
        "/tmp",
        "app",
        ["true"],
    )
    assert (config["Labels"], list(config["ExposedPorts"])) == ({"l": "m"}, ["80/tcp"])
    assert (image["Id"], image["Author"], image["Comment"]) == (id, "me <m@x>", "why")
    assert len(image["RootFS"]["Layers"]) == 1, "nothing was changed: no layer"
    events = engine.docker(
        "events", "--since", "1m", "--until", str(time.time()), "--filter", "event=commit", "--format", "{{json .}}"
    )
    attributes = json.loads(events.stdout.splitlines()[-1])["Actor"]["Attributes"]
    assert (attributes["imageID"], attributes["imageRef"], attributes["comment"]) == (id, "kept:2", "why")
    engine.docker("rmi", "kept:2")


@pytest.mark.row("RUN-33")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("none",), "No such container: none"),
        (("-c", "RUN x", "act"), "run is not a valid change command"),
        (("act", "UPPER"), "must be lowercase"),
    ],
)
def test_commits_without_sense_are_refused(cli: Cli, engine: Engine, arguments: tuple[str, ...], text: str) -> None:
    engine.docker("create", "--name", "act", "busybox", "true")
    before = engine.docker("images", "-aq").stdout
    result = cli("commit", *arguments, check=False)
    assert result.returncode == 1
    assert text in result.stderr
    assert engine.docker("images", "-aq").stdout == before


@pytest.mark.row("RUN-33")
def test_a_container_is_frozen_while_it_is_committed_unless_that_is_not_wanted(cli: Cli, engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "act", "busybox", "sleep", "1000")
    for flag, expected in (("--pause=true", ["pause", "unpause", "commit"]), ("--pause=false", ["commit"])):
        _, before = engine.api("GET", "/info")
        id = cli("commit", flag, "act").stdout.strip()
        shown = engine.docker(
            "events",
            "--since",
            before["SystemTime"],
            "--until",
            str(time.time()),
            "--filter",
            "type=container",
            "--format",
            "{{.Action}}",
        )
        assert shown.stdout.split() == expected
        engine.docker("rmi", id)
    assert engine.docker("exec", "act", "echo", "alive").stdout == "alive\n"


@pytest.mark.row("RUN-32")
def test_export_lists_what_dockers_users_expect(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    engine.docker("create", "--name", "act", "busybox")
    cli("export", "-o", str(tmp_path / "act.tar"), "act")
    found = listing(tmp_path / "act.tar")
    for name in (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"):
        assert found[name][0] == tarfile.REGTYPE and found[name][2] == 0, name
    for name in ("dev/pts", "dev/shm", "proc", "sys"):
        assert found[name][0] == tarfile.DIRTYPE, name
    assert found["etc/mtab"][3] == "/proc/mounts"
