"""Images of several platforms through both command lines and registries."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dockercli import docker_cli_release
from harness.engine import Engine
from harness.images import busybox
from harness.platforms import HERE, Multi, tar_of
from harness.registry import PeerRegistry

pytestmark = pytest.mark.system
ALL = (HERE, "riscv64", "s390x")
TARGET = "localhost:5000/several/box:1"
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if docker_cli_release() < 28:
        pytest.skip("the docker CLI here is older than 28 and has other words")
    engine = Engine()
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def registry(engine: Engine) -> Iterator[PeerRegistry]:
    try:
        peer = PeerRegistry(engine.namespace)
    except RuntimeError as exc:
        pytest.skip(str(exc))
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> tuple[Multi, str]:
    """An image for three platforms, and the archive that it lies in."""
    program = busybox().read_bytes()
    image = Multi(lambda **files: tar_of(**files, **{"bin/sh": program}), ALL, name=TARGET)
    path = tmp_path_factory.mktemp("archive") / "multi.tar"
    path.write_bytes(image.tar())
    return image, str(path)


def top(registry: PeerRegistry, reference: str) -> str:
    """Return the digest of what the registry has there."""
    accept = "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
    answer = registry.curl(f"/v2/several/box/manifests/{reference}", "--head", "--header", accept).stdout
    return re.search(r"(?i)docker-content-digest: (\S+)", answer)[1]


def plain(output: str) -> str:
    return _COLOUR.sub("", output)


def forget(engine: Engine) -> None:
    """Remove all images."""
    engine.docker("rmi", "--force", *engine.docker("images", "--quiet", "--all").stdout.split(), check=False)
    assert engine.docker("images", "--quiet", "--all").stdout == ""


@pytest.mark.row("IMG-14")
@pytest.mark.row("IMG-06")
def test_platforms_come_one_by_one_run_are_listed_and_go_one_by_one(
    engine: Engine, multi: tuple[Multi, str], tmp_path: Path
) -> None:
    _, archive = multi
    assert engine.boxship("load", "-i", archive, "--platform", "linux/riscv64").stdout == f"Loaded image: {TARGET}\n"
    engine.docker("load", "-i", archive, "--platform", f"linux/{HERE}")
    engine.docker("tag", TARGET, "short:1")
    engine.docker("run", "--name", "user", "short:1", "/bin/sh", "-c", "true")
    engine.docker("create", "--name", "foreign", "--pull", "never", "--platform", "linux/riscv64", "short:1", "x")
    listed = engine.docker("ps", "--all", "--format", "{{.Names}} {{.Image}}").stdout
    assert sorted(listed.splitlines()) == ["foreign short:1", "user short:1"]
    engine.docker("rm", "foreign")
    for words in (("--tree",), ("--tree", "short"), ("--tree", "--all"), ("--tree", "--filter", "reference=none")):
        theirs, ours = engine.docker("image", "ls", *words), engine.boxship("image", "ls", *words)
        assert [line.rstrip() for line in ours.stdout.splitlines()] == [
            line.rstrip() for line in plain(theirs.stdout).splitlines()
        ]
    assert re.search(
        r"├─ linux/riscv64 +[0-9a-f]{12} .*MB", ours_tree := engine.boxship("image", "ls", "--tree").stdout
    )
    assert re.search(r"└─ linux/s390x +[0-9a-f]{12} +0B +0B", ours_tree)
    for flag in ("--quiet", "--no-trunc", "--digests"):
        words = ("image", "ls", "--tree", flag)
        theirs, ours = engine.docker(*words, check=False), engine.boxship(*words, check=False)
        assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)
    for cli in (engine.docker, engine.boxship):
        found = cli("image", "inspect", "--platform", "linux/riscv64", "short:1", "--format", "{{.Architecture}}")
        assert found.stdout == "riscv64\n"
        refused = cli("save", "--platform", "linux/s390x", "-o", str(tmp_path / "no.tar"), "short:1", check=False)
        assert refused.returncode == 1
        assert refused.stderr.strip() == (
            "Error response from daemon: image with reference short:1 was found "
            "but does not provide the specified platform (linux/s390x)"
        )
    engine.boxship("rm", "user")
    engine.boxship("rmi", "--platform", f"linux/{HERE}", "short:1")
    assert engine.docker("image", "inspect", "short:1", "--format", "{{.Architecture}}").stdout == "riscv64\n"
    forget(engine)


@pytest.mark.row("IMG-14")
@pytest.mark.row("IMG-20")
def test_an_image_of_all_platforms_keeps_its_digests_from_archive_to_registry_to_engine(
    engine: Engine, registry: PeerRegistry, multi: tuple[Multi, str], tmp_path: Path
) -> None:
    image, archive = multi
    engine.boxship("load", "-i", archive, "--platform", "all")
    pushed = engine.docker("push", TARGET).stdout
    assert f"1: digest: {image.digest} size: " in pushed
    assert top(registry, "1") == image.digest
    for digest in image.manifests.values():
        assert top(registry, digest) == digest
    for cli, name in ((engine.docker, "2"), (engine.boxship, "3")):
        other = TARGET.replace(":1", f":{name}")
        engine.docker("tag", TARGET, other)
        cli("push", "--platform", "linux/s390x", other)
        assert top(registry, name) == image.manifests["s390x"]
    forget(engine)

    assert f"Digest: {image.digest}" in engine.docker("pull", TARGET).stdout
    assert "Downloaded newer image" in engine.docker("pull", "--platform", "linux/s390x", TARGET).stdout
    assert "Image is up to date" in engine.docker("pull", "--platform", "linux/s390x", TARGET).stdout
    assert engine.docker("inspect", TARGET, "--format", "{{.Architecture}}").stdout == f"{HERE}\n"
    manifests = json.loads(engine.docker("image", "inspect", TARGET).stdout)[0]["Descriptor"]
    assert manifests["digest"] == image.digest
    partly = engine.docker("push", TARGET)
    assert f"1: digest: {image.manifests[HERE]} size: " in partly.stdout
    ours = engine.boxship("push", TARGET)
    for output in (partly, ours):
        assert "Not all multiplatform-content is present" in plain(output.stdout + output.stderr)
    engine.docker("push", "--platform", f"linux/{HERE}", TARGET)
    assert top(registry, "1") == image.manifests[HERE]
    forget(engine)

    engine.docker("load", "-i", archive, "--platform", f"linux/{HERE}")
    for platform in ("riscv64", "s390x"):
        engine.docker("load", "-i", archive, "--platform", f"linux/{platform}")
    engine.docker("save", "-o", str(tmp_path / "again.tar"), TARGET)
    engine.docker("push", TARGET)
    assert top(registry, "1") == image.digest
    forget(engine)
    engine.boxship("pull", "--platform", "all", f"{TARGET.rpartition(':')[0]}@{image.digest}")
    tree = engine.boxship("image", "ls", "--tree", "--all").stdout
    assert tree.count("linux/") == 3
    assert " 0B" not in tree
    forget(engine)
    engine.boxship("load", "-i", str(tmp_path / "again.tar"), "--platform", "all")
    assert f"1: digest: {image.digest} size: " in engine.boxship("push", TARGET).stdout
    forget(engine)


def test_what_was_saved_of_several_platforms_is_read_by_others(
    engine: Engine, multi: tuple[Multi, str], tmp_path: Path
) -> None:
    image, archive = multi
    engine.boxship("load", "-i", archive, "--platform", "all")
    engine.boxship("save", "-o", str(tmp_path / "all.tar"), TARGET)
    forget(engine)
    with (tmp_path / "all.tar").open("rb") as file:
        engine.docker("load", stdin=file)
    assert engine.docker("inspect", TARGET, "--format", "{{.Id}}").stdout.strip() == image.ids[HERE]
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "all.tar", "-C", tmp_path / "layout"], check=True)
    (entry,) = json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
    assert entry["digest"] == image.digest
    forget(engine)
