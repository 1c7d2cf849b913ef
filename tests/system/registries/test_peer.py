"""Pull, push and login against the Debian archive's docker-registry, with the real docker CLI and our own."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from harness.engine import Engine
from harness.images import import_busybox
from harness.registry import PeerRegistry
from harness.waiting import until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        engine.start()
        import_busybox(engine)
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
def closed(engine: Engine) -> Iterator[PeerRegistry]:
    """A registry with TLS by a CA of its own, for whom the daemon knows, and a user."""
    try:
        peer = PeerRegistry(engine.namespace, 5443, users={"joe": "secret"}, tls=True)
    except RuntimeError as exc:
        pytest.skip(str(exc))
    peer.host = "registry.test:5443"
    yield peer
    peer.close()


def pushed(engine: Engine, name: str) -> str:
    """Push the busybox image as ``name`` and return the manifest's digest."""
    engine.docker("tag", "busybox", name)
    line = next(line for line in engine.docker("push", name).stdout.splitlines() if "digest: " in line)
    return line.partition("digest: ")[2].partition(" ")[0]


@pytest.mark.row("REG-02")
@pytest.mark.row("REG-07")
def test_push_speaks_and_skips_as_docker_does(engine: Engine, registry: PeerRegistry) -> None:
    engine.docker("tag", "busybox", "localhost:5000/a/box:1")
    first = engine.docker("push", "localhost:5000/a/box:1").stdout.splitlines()
    assert first[0] == "The push refers to repository [localhost:5000/a/box]"
    layer = first[1].partition(":")[0]
    assert f"{layer}: Pushed" in first
    again = engine.docker("push", "localhost:5000/a/box:1").stdout.splitlines()
    assert again[1:3] == [f"{layer}: Preparing", f"{layer}: Layer already exists"]
    assert again[3] == first[-1]
    engine.docker("tag", "busybox", "localhost:5000/b:2")
    assert f"{layer}: Mounted from a/box" in engine.docker("push", "localhost:5000/b:2").stdout.splitlines()
    missing = engine.docker("push", "localhost:5000/a/box:none", check=False)
    assert missing.returncode == 1
    assert missing.stderr.strip() == "tag does not exist: localhost:5000/a/box:none"


@pytest.mark.row("IMG-07")
@pytest.mark.row("REG-01")
@pytest.mark.row("REG-15")
def test_pull_brings_the_same_image_with_docker_s_lines(engine: Engine, registry: PeerRegistry) -> None:
    digest = pushed(engine, "localhost:5000/pull/box:1")
    id = engine.docker("inspect", "-f", "{{.Id}}", "busybox").stdout
    other = Engine(namespace=engine.namespace)
    try:
        other.start()
        lines = other.docker("pull", "localhost:5000/pull/box:1").stdout.splitlines()
        assert lines[0] == "1: Pulling from pull/box"
        layer = lines[1].partition(":")[0]
        for text in ("Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"):
            assert f"{layer}: {text}" in lines
        assert lines[-3:] == [
            f"Digest: {digest}",
            "Status: Downloaded newer image for localhost:5000/pull/box:1",
            "localhost:5000/pull/box:1",
        ]
        again = other.boxship("pull", "localhost:5000/pull/box:1").stdout.splitlines()
        assert again == [
            "1: Pulling from pull/box",
            f"Digest: {digest}",
            "Status: Image is up to date for localhost:5000/pull/box:1",
            "localhost:5000/pull/box:1",
        ]
        assert other.docker("inspect", "-f", "{{.Id}}", "localhost:5000/pull/box:1").stdout == id
        shown = json.loads(other.docker("inspect", "localhost:5000/pull/box:1").stdout)[0]
        assert shown["RepoDigests"] == [f"localhost:5000/pull/box@{digest}"]
        # A pulled image goes back with the same digest, to any repository.
        assert other.docker("tag", "localhost:5000/pull/box:1", "localhost:5000/back:1").returncode == 0
        assert f"1: digest: {digest} size:" in other.docker("push", "localhost:5000/back:1").stdout
        run = other.docker("run", "--rm", "--network", "none", f"localhost:5000/pull/box@{digest}", "echo", "hi")
        assert run.stdout == "hi\n"
        other.docker("rmi", "localhost:5000/back:1")
        gone = other.docker("rmi", "localhost:5000/pull/box:1").stdout.splitlines()
        assert gone[:2] == [
            "Untagged: localhost:5000/pull/box:1",
            f"Untagged: localhost:5000/pull/box@{digest}",
        ]
        assert gone[2].startswith("Deleted: sha256:")
    finally:
        other.close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("localhost:5000/x:none", "manifest for localhost:5000/x:none not found: manifest unknown: manifest unknown"),
        ("localhost:5009/x:1", 'Get "http://localhost:5009/v2/": dial tcp 127.0.0.1:5009: connect: connection refused'),
    ],
)
def test_what_can_t_be_pulled_is_said_in_docker_s_words(
    engine: Engine, registry: PeerRegistry, name: str, said: str
) -> None:
    done = engine.docker("pull", name, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, f"Error response from daemon: {said}")


@pytest.mark.row("API-18")
def test_distribution_tells_the_descriptor_and_the_platforms(engine: Engine, registry: PeerRegistry) -> None:
    digest = pushed(engine, "localhost:5000/dist:1")
    status, body = engine.api("GET", "/distribution/localhost:5000/dist:1/json")
    assert status == 200
    assert body["Descriptor"]["digest"] == digest
    assert body["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    status, body = engine.api("GET", "/distribution/localhost:5000/dist:no/json")
    assert (status, body) == (404, {"message": "manifest unknown: manifest unknown"})


@pytest.mark.row("IMG-16")
def test_search_looks_through_a_registry_s_catalogue(engine: Engine, registry: PeerRegistry) -> None:
    pushed(engine, "localhost:5000/found/needle:1")
    rows = engine.boxship("search", "localhost:5000/needle").stdout.splitlines()
    assert rows[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert rows[1].split()[0] == "localhost:5000/found/needle"
    assert engine.docker("search", "--format", "{{.Name}}", "localhost:5000/needle").stdout.split() == [
        "localhost:5000/found/needle"
    ]


@pytest.mark.row("REG-03")
@pytest.mark.row("REG-04")
@pytest.mark.row("REG-13")
def test_login_over_tls_with_an_own_ca(engine: Engine, closed: PeerRegistry) -> None:
    name = "localhost:5443/private/box:1"
    place = engine.root / "certs.d" / "localhost:5443"
    place.mkdir(parents=True, exist_ok=True)
    (place / "ca.crt").write_bytes(closed.ca.read_bytes())
    engine.docker("tag", "busybox", name)
    refused = engine.boxship("push", name, check=False)
    assert refused.stderr.strip().endswith("no basic auth credentials")
    wrong = engine.boxship("login", "-u", "joe", "--password-stdin", "localhost:5443", input="no\n", check=False)
    assert wrong.returncode == 1
    assert "login attempt to https://localhost:5443/v2/ failed with status: 401 Unauthorized" in wrong.stderr
    done = engine.boxship("login", "-u", "joe", "--password-stdin", "localhost:5443", input="secret\n")
    assert done.stdout == "Login Succeeded\n"
    assert "Your credentials are stored unencrypted in" in done.stderr
    assert "digest: sha256:" in engine.boxship("push", name).stdout
    engine.docker("rmi", name)
    assert "Status: Downloaded newer image" in engine.docker("pull", name).stdout
    assert engine.boxship("logout", "localhost:5443").stdout == "Removing login credentials for localhost:5443\n"
    assert "no basic auth credentials" in engine.boxship("pull", name, check=False).stderr
    assert "secret" not in engine.log_text()


@pytest.mark.row("REG-18")
def test_a_credential_helper_keeps_and_gives_the_credentials(
    engine: Engine, closed: PeerRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-drawer"
    helper.write_text(
        "#!/bin/sh\n"
        f"f={tmp_path}/kept\n"
        'case "$1" in\n'
        'store) cat >"$f";;\n'
        'get) [ -e "$f" ] && cat "$f" || { echo credentials not found in native keychain; exit 1; };;\n'
        'erase) cat >/dev/null; rm -f "$f";;\n'
        "esac\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    config = engine.root / "config"
    config.mkdir(exist_ok=True)
    (config / "config.json").write_text('{"credsStore": "drawer"}')
    try:
        done = engine.boxship("login", "-u", "joe", "--password-stdin", "localhost:5443", input="secret\n")
        assert done.stderr == ""
        assert json.loads((tmp_path / "kept").read_text())["Secret"] == "secret"
        assert "secret" not in (config / "config.json").read_text()
        assert "Login Succeeded" in engine.boxship("login", "localhost:5443").stdout
        engine.boxship("logout", "localhost:5443")
        assert not (tmp_path / "kept").exists()
    finally:
        (config / "config.json").unlink()


@pytest.mark.row("REG-14")
def test_a_rule_sends_a_registry_s_names_to_a_mirror_and_nowhere_else(engine: Engine, registry: PeerRegistry) -> None:
    pushed(engine, "localhost:5000/mirrored/quay/box:1")
    rules = [
        {
            "prefix": "quay.test",
            "mirrors": [{"url": "http://localhost:5000", "rewrite": "mirrored/quay"}],
            "fallback": False,
        },
        {"prefix": "blocked.test", "fallback": False},
    ]
    config = engine.root / "daemon.json"
    config.write_text(json.dumps({"registry-mirror-rules": rules}))
    assert engine.process is not None
    engine.process.send_signal(1)
    until(lambda: "Reloaded configuration" in engine.log_text())
    assert "Downloaded newer image for quay.test/box:1" in engine.docker("pull", "quay.test/box:1").stdout
    refused = engine.docker("pull", "blocked.test/x", check=False).stderr
    assert "registry blocked.test must not be contacted for blocked.test/x" in refused


@pytest.mark.row("IMG-24")
def test_a_pull_that_was_killed_goes_on_where_it_stopped(engine: Engine, registry: PeerRegistry) -> None:
    """64 MiB that no compression makes smaller; the daemon dies when most of it is there."""
    data = engine.root / "big"
    data.mkdir(exist_ok=True)
    (data / "noise").write_bytes(os.urandom(64 << 20))
    engine.namespace.run("tar", "-C", str(data), "-cf", str(engine.root / "big.tar"), ".")
    engine.docker("import", str(engine.root / "big.tar"), "localhost:5000/big:1")
    engine.docker("push", "localhost:5000/big:1")
    other = Engine(namespace=engine.namespace)
    try:
        other.start()
        ingest = other.data_root / "content" / "ingest"
        client = threading.Thread(target=other.docker, args=("pull", "localhost:5000/big:1"), kwargs={"check": False})
        client.start()
        until(lambda: any(path.stat().st_blocks * 512 > 24 << 20 for path in ingest.glob("partial-*")))
        other.kill()
        client.join()
        before = sum(path.stat().st_blocks * 512 for path in ingest.glob("partial-*"))
        assert before > 24 << 20
        asked = len(_ranges(registry))
        other.start()
        lines = other.docker("pull", "localhost:5000/big:1").stdout
        assert "Downloaded newer image" in lines
        fetched = sum(size for size in _ranges(registry)[asked:])
        assert 0 < fetched <= (64 << 20) - before * 0.9 + (6 << 20)
        assert not list(ingest.iterdir())
    finally:
        other.close()
        engine.docker("rmi", "localhost:5000/big:1")


def _ranges(registry: PeerRegistry) -> list[int]:
    """The bytes of each answer to a GET of a blob, from the registry's access log."""
    lines = [line for line in registry.requests() if '"GET /v2/big/blobs/' in line]
    return [int(line.rpartition('" 20')[2].split()[1]) for line in lines]


@pytest.mark.row("RUN-01")
@pytest.mark.row("API-12")
@pytest.mark.row("IMG-08")
def test_run_pulls_what_is_missing_and_only_then(engine: Engine, registry: PeerRegistry) -> None:
    name = "localhost:5000/run/box:1"
    pushed(engine, name)
    engine.docker("rmi", name)
    words = ("run", "--rm", "--network", "none", name, "true")
    never = engine.boxship("run", "--pull", "never", *words[1:], check=False)
    assert never.returncode == 125
    first = engine.boxship(*words).stderr.splitlines()
    assert first[0] == f"Unable to find image '{name}' locally"
    assert first[-1] == f"Status: Downloaded newer image for {name}" or first[-1].startswith("Status: ")
    assert engine.docker(*words).stderr == ""
    assert "Image is up to date" in engine.boxship("run", "--pull", "always", *words[1:]).stderr


@pytest.mark.row("REG-05")
def test_a_private_image_without_login_is_refused(engine: Engine, closed: PeerRegistry) -> None:
    place = engine.root / "certs.d" / "localhost:5443"
    place.mkdir(parents=True, exist_ok=True)
    (place / "ca.crt").write_bytes(closed.ca.read_bytes())
    refused = engine.docker("pull", "localhost:5443/private/other:1", check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip() == (
        'Error response from daemon: Head "https://localhost:5443/v2/private/other/manifests/1": no basic auth credentials'
    )


@pytest.mark.row("IMG-20")
def test_a_manifest_list_is_made_pushed_and_pulled_by_platform(engine: Engine, registry: PeerRegistry) -> None:
    digest = pushed(engine, "localhost:5000/multi/box:1")
    target, image = "localhost:5000/multi/list:1", "localhost:5000/multi/box:1"
    assert engine.boxship("manifest", "create", target, image).stdout == f"Created manifest list {target}\n"
    again = engine.boxship("manifest", "create", target, image, check=False)
    assert again.stderr.strip() == "refusing to amend an existing manifest list with no --amend flag"
    engine.boxship("manifest", "annotate", "--arch", "arm64", "--variant", "v8", target, image)
    local = engine.boxship("manifest", "inspect", target).stdout
    assert json.loads(local)["manifests"][0]["platform"] == {"architecture": "arm64", "os": "linux", "variant": "v8"}
    assert engine.docker("manifest", "inspect", target).stdout == local  # the docker CLI reads the same files
    lines = engine.boxship("manifest", "push", target).stdout.splitlines()
    assert lines[0] == f"Pushed ref localhost:5000/multi/list@{digest} with digest: {digest}"
    engine.boxship("manifest", "rm", target)
    gone = engine.boxship("manifest", "rm", target, check=False)
    assert (gone.returncode, gone.stderr.strip()) == (1, f"No such manifest: {target}")
    assert engine.boxship("manifest", "inspect", target).stdout == local
    refused = engine.docker("pull", target, check=False)
    assert refused.stderr.strip() == "no matching manifest for linux/amd64 in the manifest list entries"
    pulled = engine.docker("pull", "--platform", "linux/arm64", target).stdout
    assert f"Digest: {lines[-1]}" in pulled


@pytest.mark.row("IMG-21")
def test_zstd_plain_and_foreign_layers_are_pulled(engine: Engine, registry: PeerRegistry) -> None:
    """An OCI image made by hand: a zstd layer, an uncompressed one, and one that only a URL has."""
    parts = {name: _tar(name) for name in ("zstd", "plain", "foreign")}
    blobs = {
        "zstd": zstandard.compress(parts["zstd"]),
        "plain": parts["plain"],
        "foreign": gzip.compress(parts["foreign"]),
    }
    upload(registry, "store/of/urls", blobs["foreign"])
    url = f"http://localhost:5000/v2/store/of/urls/blobs/{digest_of(blobs['foreign'])}"
    kind = "application/vnd.oci.image.layer.{}"
    types = {"zstd": "v1.tar+zstd", "plain": "v1.tar", "foreign": "nondistributable.v1.tar+gzip"}
    layers = [
        {
            "mediaType": kind.format(types[name]),
            "digest": digest_of(blob),
            "size": len(blob),
            **({"urls": [url]} if name == "foreign" else {}),
        }
        for name, blob in blobs.items()
    ]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["x"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(part) for part in parts.values()]},
        }
    ).encode()
    for blob in (blobs["zstd"], blobs["plain"], config):
        upload(registry, "kinds", blob)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest_of(config),
                "size": len(config),
            },
            "layers": layers,
        }
    ).encode()
    put(registry, "/v2/kinds/manifests/1", manifest, "application/vnd.oci.image.manifest.v1+json")
    engine.docker("pull", "localhost:5000/kinds:1")
    id = engine.docker("create", "localhost:5000/kinds:1").stdout.strip()
    for name in parts:
        assert engine.docker("cp", f"{id}:/{name}", str(engine.root)).returncode == 0
        assert (engine.root / name).read_text() == name
    engine.docker("rm", id)
    engine.docker("tag", "localhost:5000/kinds:1", "localhost:5000/kinds:2")
    assert f"digest: {digest_of(manifest)}" in engine.docker("push", "localhost:5000/kinds:2").stdout


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put(registry: PeerRegistry, path: str, data: bytes, media_type: str) -> None:
    file = registry.root / "body"
    file.write_bytes(data)
    done = registry.curl(path, "-f", "-X", "PUT", "-H", f"Content-Type: {media_type}", "--data-binary", f"@{file}")
    assert done.returncode == 0, done


def upload(registry: PeerRegistry, repository: str, data: bytes) -> None:
    head = registry.curl(f"/v2/{repository}/blobs/uploads/", "-X", "POST", "-D", "-", "-o", "/dev/null").stdout
    location = next(line for line in head.splitlines() if line.lower().startswith("location: ")).split()[1]
    path = "/" + location.split("/", 3)[3]
    put(registry, f"{path}&digest={digest_of(data)}", data, "application/octet-stream")


def _tar(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(name)
        tar.addfile(entry, io.BytesIO(name.encode()))
    return buffer.getvalue()


def test_f3_a_full_disk_fails_the_pull_and_nothing_else(engine: Engine, registry: PeerRegistry) -> None:
    source = engine.root / "noise"
    source.mkdir(exist_ok=True)
    (source / "noise").write_bytes(os.urandom(40 << 20))
    engine.namespace.run("tar", "-C", str(source), "-cf", str(engine.root / "noise.tar"), ".")
    engine.docker("import", str(engine.root / "noise.tar"), "localhost:5000/noise:1")
    engine.docker("push", "localhost:5000/noise:1")
    engine.docker("rmi", "localhost:5000/noise:1")
    pushed(engine, "localhost:5000/small:1")
    other = Engine(namespace=engine.namespace)
    try:
        other.data_root.mkdir()
        other.namespace.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(other.data_root))
        other.start()
        failed = other.docker("pull", "localhost:5000/noise:1", check=False)
        assert failed.returncode == 1
        assert failed.stderr.strip().endswith("no space left on device")
        assert other.docker("images", "-q").stdout == ""
        other.docker("image", "prune", "-f")
        assert not list((other.data_root / "content" / "ingest").iterdir())
        other.docker("pull", "localhost:5000/small:1")
        run = other.docker("run", "--rm", "--network", "none", "localhost:5000/small:1", "echo", "lives")
        assert run.stdout == "lives\n"
        other.stop()
    finally:
        if other.process is not None:
            other.kill()
        other.namespace.run("umount", "-l", str(other.data_root), check=False)
        other.close()
