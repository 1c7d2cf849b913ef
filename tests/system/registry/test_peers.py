"""Other people's clients against our registry: the docker CLI with a real dockerd, skopeo and podman."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.images import busybox_tar, import_busybox
from harness.netns import NetworkNamespace
from harness.registry_server import RegistryServer

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def namespace() -> Iterator[NetworkNamespace]:
    """Where everything of this module happens."""
    made = NetworkNamespace()
    yield made
    made.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The configuration of a registry with one user and tokens of its own, where everybody may pull."""
    users = tmp_path_factory.mktemp("users") / "htpasswd"
    users.write_text(f"ada:{bcrypt.hashpw(b'lovelace', bcrypt.gensalt(4)).decode()}")
    return {
        "auth": {"htpasswd": {"path": str(users)}, "issuer": {}},
        "access": [
            {"repositories": ["*"], "users": ["ada"], "actions": ["*"]},
            {"repositories": ["*"], "users": ["anonymous"], "actions": ["pull"]},
        ],
    }


@pytest.fixture(scope="module")
def registry(namespace: NetworkNamespace, guarded: dict[str, object]) -> Iterator[RegistryServer]:
    """Such a registry in the module's namespace."""
    server = RegistryServer(guarded, prefix=namespace.prefix())
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of two layers as an OCI layout, made by hand."""
    folder = tmp_path_factory.mktemp("layout")
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(data: bytes, type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": type, "digest": f"sha256:{digest}", "size": len(data)}

    layers = [b"first layer " * 10_000, b"second layer " * 5_000]
    kind = "application/vnd.oci.image"
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    settings = {
        "os": "linux",
        "architecture": "amd64",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": add(json.dumps(settings).encode(), f"{kind}.config.v1+json"),
        "layers": [add(data, f"{kind}.layer.v1.tar") for data in layers],
    }
    pointer = add(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [{**pointer, "annotations": {"org.opencontainers.image.ref.name": "v1"}}]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def test_skopeo_copies_inspects_lists_and_deletes(
    namespace: NetworkNamespace, registry: RegistryServer, layout: Path, tmp_path: Path
) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    insecure = "--tls-verify=false"
    target = f"docker://localhost:{registry.port}/skopeo/app"

    def skopeo(*words: str) -> str:
        command = ["skopeo", "--insecure-policy", *words]
        return namespace.run(*command, env=None, timeout=60).stdout

    credentials = "ada:lovelace"
    skopeo(
        "copy",
        "--preserve-digests",
        "--dest-tls-verify=false",
        "--dest-creds",
        credentials,
        f"oci:{layout}:v1",
        f"{target}:v1",
    )
    skopeo(
        "copy",
        "--preserve-digests",
        "--dest-tls-verify=false",
        "--dest-creds",
        credentials,
        f"oci:{layout}:v1",
        f"{target}:v2",
    )
    pushed = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    assert json.loads(skopeo("inspect", insecure, f"{target}:v1"))["Digest"] == pushed
    assert json.loads(skopeo("list-tags", insecure, target))["Tags"] == ["v1", "v2"]
    skopeo("copy", "--preserve-digests", "--src-tls-verify=false", f"{target}:v1", f"oci:{tmp_path / 'back'}:v1")
    assert json.loads((tmp_path / "back/index.json").read_text())["manifests"][0]["digest"] == pushed
    skopeo("delete", insecure, "--creds", credentials, f"{target}:v1")
    with pytest.raises(subprocess.CalledProcessError, match="non-zero"):
        skopeo("inspect", insecure, f"{target}:v1")


def test_skopeo_may_not_push_without_a_password(
    namespace: NetworkNamespace, registry: RegistryServer, layout: Path
) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    target = f"docker://localhost:{registry.port}/skopeo/other:v1"
    done = namespace.run(
        "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}:v1", target, check=False
    )
    assert done.returncode != 0
    assert "unauthorized" in done.stderr or "authentication required" in done.stderr


@pytest.mark.row("REG-07")
def test_docker_logs_in_pushes_and_pulls(guarded: dict[str, object]) -> None:
    try:
        peer = Dockerd(["--iptables=false", "--bridge=none"])
        peer.start()
    except RuntimeError as exc:
        pytest.skip(str(exc))
    registry = RegistryServer(guarded, prefix=peer.namespace.prefix())
    try:
        host = f"localhost:{registry.start().port}"
        import_busybox(peer, "app")
        name, other = f"{host}/docker/app:v1", f"{host}/docker/other:v1"
        peer.docker("tag", "app", name)
        peer.docker("tag", "app", other)
        refused = peer.docker("push", name, check=False)
        assert "denied" in refused.stderr or "unauthorized" in refused.stderr
        peer.docker("login", "-u", "ada", "-p", "lovelace", host)
        assert "digest: sha256:" in peer.docker("push", name).stdout
        assert "Layer already exists" in peer.docker("push", name).stdout
        assert "Mounted from docker/app" in peer.docker("push", other).stdout
        id = peer.docker("image", "inspect", "-f", "{{.Id}}", name).stdout
        peer.docker("logout", host)
        peer.docker("rmi", "-f", "app", name, other)
        assert "Downloaded newer image" in peer.docker("pull", name).stdout
        assert peer.docker("image", "inspect", "-f", "{{.Id}}", name).stdout == id
        absent = peer.docker("pull", f"{host}/docker/absent", check=False)
        assert "manifest unknown" in absent.stderr or "not found" in absent.stderr
    finally:
        registry.close()
        peer.close()


def test_our_own_engine_logs_in_pushes_and_pulls(guarded: dict[str, object]) -> None:
    engine = Engine()
    registry = RegistryServer(guarded, prefix=engine.namespace.prefix())
    try:
        engine.start()
        host = f"localhost:{registry.start().port}"
        import_busybox(engine, "app")
        name = f"{host}/own/app:v1"
        engine.boxship("tag", "app", name)
        assert engine.boxship("push", name, check=False).returncode != 0
        engine.boxship("login", "-u", "ada", "--password-stdin", host, input="lovelace")
        assert "digest: sha256:" in engine.boxship("push", name).stdout
        id = engine.boxship("image", "inspect", "-f", "{{.Id}}", name).stdout
        engine.boxship("logout", host)
        engine.boxship("rmi", "-f", "app", name)
        engine.boxship("pull", name)
        assert engine.boxship("image", "inspect", "-f", "{{.Id}}", name).stdout == id
    finally:
        registry.close()
        engine.close()


def test_podman_pushes_and_pulls(
    namespace: NetworkNamespace, registry: RegistryServer, layout: Path, tmp_path: Path
) -> None:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    run = tempfile.mkdtemp(prefix="podman-")  # podman refuses paths above 50 characters
    storage = ["--root", str(tmp_path / "root"), "--runroot", run, "--storage-driver", "vfs"]
    busybox = tmp_path / "busybox.tar"
    busybox.write_bytes(busybox_tar())

    def podman(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return namespace.run("podman", *storage, *words, check=check, timeout=120)

    name = f"localhost:{registry.port}/podman/app:v1"
    try:
        podman("import", str(busybox), name)
        id = podman("image", "inspect", "-f", "{{.Id}}", name).stdout
        podman("push", "--tls-verify=false", "--creds", "ada:lovelace", name)
        podman("rmi", name)
        podman("pull", "--tls-verify=false", name)
        assert podman("image", "inspect", "-f", "{{.Id}}", name).stdout == id
    finally:
        podman("rmi", "-af", check=False)
        shutil.rmtree(run)
