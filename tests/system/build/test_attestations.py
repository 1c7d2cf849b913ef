"""What is attested about an image travels with it, and every client still sees the image."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.dockercli import docker_cli_release
from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.images import import_busybox
from harness.registry import PeerRegistry
from harness.registry_server import RegistryServer

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SPDX = "https://spdx.dev/Document"
SLSA = "https://slsa.dev/provenance/v1"
STATUS = (
    "Package: openssl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.0.11-1~deb12u2\n"
    "Maintainer: Debian OpenSSL Team <pkg-openssl-devel@alioth-lists.debian.net>\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
)
FILES = {
    "status": STATUS,
    "os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n',
    "METADATA": "Metadata-Version: 2.1\nName: Flask_Thing\nVersion: 2.0\nLicense: BSD-3-Clause\n\nText\n",
    "package.json": '{"name": "@acme/left-pad", "version": "1.3.0", "license": "WTFPL"}',
}
DOCKERFILE = """\
FROM base
ARG COLOUR=red
COPY os-release /etc/os-release
COPY status /var/lib/dpkg/status
COPY METADATA /usr/lib/python3/dist-packages/flask_thing-2.0.dist-info/METADATA
COPY package.json /app/node_modules/@acme/left-pad/package.json
RUN --mount=type=secret,id=token echo $COLOUR > /colour
"""


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
    for name, text in FILES.items():
        (root / name).write_text(text)
    (root / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "token").write_text("the-secret-itself")
    return root


def build(engine: Engine, project: Path, *flags: str) -> str:
    secret = f"id=token,src={project.parent / 'token'}"
    engine.boxship("build", "--secret", secret, "--progress=plain", *flags, str(project))
    return engine.docker("images", "-q", "--no-trunc").stdout.split()[0]


def statements(engine: Engine, name: str) -> dict[str, Any]:
    status, rows = engine.api("GET", f"/images/{name}/attestations?statement=1")
    assert status == 200, rows
    for row in rows:
        assert row["Descriptor"]["mediaType"] == "application/vnd.in-toto+json"
        assert row["Descriptor"]["annotations"] == {"in-toto.io/predicate-type": row["PredicateType"]}
        assert row["Statement"]["predicateType"] == row["PredicateType"]
    return {row["PredicateType"]: row["Statement"] for row in rows}


def manifests(engine: Engine, name: str) -> list[dict[str, Any]]:
    status, document = engine.api("GET", f"/images/{name}/json?manifests=1")
    assert status == 200, document
    found: list[dict[str, Any]] = document["Manifests"]
    return found


def purls(document: dict[str, Any]) -> set[str]:
    return {ref["referenceLocator"] for package in document["packages"] for ref in package.get("externalRefs", ())}


def layout(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]


def index_of(files: dict[str, bytes]) -> dict[str, Any]:
    (entry,) = json.loads(files["index.json"])["manifests"]
    data = files["blobs/" + entry["digest"].replace(":", "/")]
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == entry["digest"]
    found: dict[str, Any] = json.loads(data)
    return found


def test_packages_and_the_build_are_attested_as_buildkit_writes_it(engine: Engine, project: Path) -> None:
    build(engine, project, "--sbom=true", "--provenance=mode=max", "-t", "attested:1", "--build-arg", "COLOUR=blue")

    image, attestation = manifests(engine, "attested:1")
    assert image["Kind"] == "image" and image["Available"]
    assert attestation["Kind"] == "attestation" and attestation["AttestationData"] == {"For": image["ID"]}
    assert attestation["Descriptor"]["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert attestation["Descriptor"]["annotations"] == {
        "vnd.docker.reference.digest": image["ID"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    found = statements(engine, "attested:1")
    assert found.keys() == {SPDX, SLSA}
    digest = image["ID"].removeprefix("sha256:")
    for statement in found.values():
        assert statement["subject"] == [
            {"name": "pkg:docker/attested@1?platform=linux%2Famd64", "digest": {"sha256": digest}}
        ]
    assert purls(found[SPDX]["predicate"]) >= {
        "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12",
        "pkg:pypi/flask-thing@2.0",
        "pkg:npm/%40acme/left-pad@1.3.0",
    }
    assert not [purl for purl in purls(found[SPDX]["predicate"]) if "gone" in purl]
    definition = found[SLSA]["predicate"]["buildDefinition"]
    request = definition["externalParameters"]["request"]
    assert request["args"]["build-arg:COLOUR"] == "blue" and request["secrets"] == [{"id": "token"}]
    uris = {row["uri"]: row["digest"] for row in definition["resolvedDependencies"]}
    assert uris.keys() == {"pkg:docker/base@latest?platform=linux%2Famd64", "local:context", "local:dockerfile"}
    assert uris["local:dockerfile"] == {"sha256": hashlib.sha256(DOCKERFILE.encode()).hexdigest()}
    assert "the-secret-itself" not in json.dumps(found)


def test_the_tree_and_the_file_about_the_build_show_the_index(engine: Engine, project: Path, tmp_path: Path) -> None:
    target = tmp_path / "metadata.json"
    build(engine, project, "--sbom=true", "-t", "shown:1", "--metadata-file", str(target))
    _, document = engine.api("GET", "/images/shown:1/json")
    metadata = json.loads(target.read_text())
    assert metadata["containerimage.descriptor"] == document["Descriptor"]
    assert metadata["containerimage.digest"] == document["Descriptor"]["digest"]
    assert metadata["containerimage.config.digest"] == document["Id"]
    if docker_cli_release() < 28:
        pytest.skip("the docker CLI here is older than 28 and shows another tree")
    trees = [run("image", "ls", "--tree").stdout for run in (engine.docker, engine.boxship)]
    words = [[line.split() for line in re.sub(r"\x1b\[[0-9;]*m", "", tree).splitlines()] for tree in trees]
    assert words[0] == words[1]


def test_little_is_told_by_default_and_nothing_without_being_asked(engine: Engine, project: Path) -> None:
    build(engine, project, "--attest", "type=provenance", "-t", "little", "--build-arg", "COLOUR=green")
    (statement,) = statements(engine, "little").values()
    assert "green" not in json.dumps(statement) and "token" not in json.dumps(statement)
    assert statement["predicate"]["runDetails"]["metadata"]["buildkit_completeness"]["request"] is False

    build(engine, project, "--provenance=false", "--sbom=false", "-t", "nothing")
    assert statements(engine, "nothing") == {}
    assert engine.api("GET", f"/images/little/attestations?type={SPDX}")[1] == []


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--sbom=generator=docker/scout", "attestation generator 'docker/scout'"),
        ("--provenance=mode=all", "invalid mode 'all' of the attestation provenance"),
        ("--provenance=version=v0.2", "version 'v0.2' of the attestation provenance"),
        ("--attest=type=vex", "unknown attestation type 'vex'"),
        ("--attest=mode=max", "attestation type not specified"),
        ("--attest=sbom", "invalid value sbom"),
    ],
)
def test_what_cannot_be_attested_is_said_at_once(engine: Engine, project: Path, flag: str, message: str) -> None:
    refused = engine.boxship("build", flag, str(project), check=False)
    assert refused.returncode == 1 and message in refused.stderr


def test_an_image_without_a_name_keeps_its_attestations_and_leaves_nothing_behind(
    engine: Engine, project: Path, tmp_path: Path
) -> None:
    target = tmp_path / "image.tar"
    (project / "Dockerfile").write_text(DOCKERFILE + "LABEL nameless=yes\n")
    build(engine, project, "--sbom=true", "-o", f"type=oci,dest={target}", "--iidfile", str(tmp_path / "id"))
    id = (tmp_path / "id").read_text()
    assert statements(engine, id).keys() == {SPDX}
    files = layout(target.read_bytes())
    image, attestation = index_of(files)["manifests"]
    assert attestation["annotations"]["vnd.docker.reference.digest"] == image["digest"]
    assert "blobs/" + attestation["digest"].replace(":", "/") in files
    assert id in engine.docker("images", "-q", "--no-trunc", "--filter", "dangling=true").stdout

    blobs = set((engine.data_root / "content/blobs/sha256").iterdir())
    engine.docker("rmi", id)
    gone = blobs - set((engine.data_root / "content/blobs/sha256").iterdir())
    assert attestation["digest"].removeprefix("sha256:") in {path.name for path in gone}
    assert engine.boxship("system", "fsck").returncode == 0


@pytest.mark.parametrize("kind", ["ours", "docker-registry"])
def test_attestations_survive_save_and_load_and_push_and_pull(
    engine: Engine, project: Path, tmp_path: Path, kind: str
) -> None:
    registry: PeerRegistry | RegistryServer
    try:
        registry = (
            RegistryServer(prefix=engine.namespace.prefix()).start()
            if kind == "ours"
            else PeerRegistry(engine.namespace, 5001)
        )
    except RuntimeError as exc:
        pytest.skip(str(exc))
    name = f"localhost:{registry.port}/shop/app:1"
    try:
        build(engine, project, "--sbom=true", "--provenance=true", "-t", name)
        said, wanted = statements(engine, name), manifests(engine, name)
        archive = tmp_path / "app.tar"
        engine.docker("save", "-o", str(archive), name)
        engine.docker("push", name)
        engine.docker("rmi", name)
        engine.docker("load", "-i", str(archive))
        assert statements(engine, name) == said
        engine.docker("rmi", name)
        assert "Downloaded newer image" in engine.docker("pull", name).stdout
        assert statements(engine, name) == said
        assert [row["ID"] for row in manifests(engine, name)] == [row["ID"] for row in wanted]
        _look_with_skopeo(engine, name, tmp_path)
    finally:
        registry.close()


def test_a_real_dockerd_pulls_and_loads_an_image_with_attestations(project: Path, tmp_path: Path) -> None:
    try:
        peer = Dockerd(["--iptables=false", "--bridge=none"])
        peer.start()
    except RuntimeError as exc:
        pytest.skip(str(exc))
    engine = Engine(namespace=peer.namespace)
    registry = RegistryServer(prefix=peer.namespace.prefix())
    try:
        engine.start()
        import_busybox(engine, "base")
        name = f"localhost:{registry.start().port}/shop/app:1"
        build(engine, project, "--sbom=true", "--provenance=mode=max", "-t", name)
        id = engine.docker("image", "inspect", "-f", "{{.Id}}", name).stdout
        archive = tmp_path / "app.tar"
        engine.boxship("save", "-o", str(archive), name)
        engine.boxship("push", name)
        for bring in (("pull", name), ("load", "-i", str(archive))):
            peer.docker(*bring)
            assert peer.docker("image", "inspect", "-f", "{{.Id}}", name).stdout == id
            peer.docker("rmi", name)
    finally:
        registry.close()
        engine.close()
        peer.close()


def _look_with_skopeo(engine: Engine, name: str, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        return
    words = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path}/sk"]
    done = subprocess.run([*engine.namespace.prefix(), *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
