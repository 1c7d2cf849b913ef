"""Garbage collection while clients work, and after they are gone."""

from __future__ import annotations

import json

import pytest

from harness.registry_load import Load, server
from harness.registry_server import OCI_MANIFEST, Client, RegistryServer, digest_of
from harness.waiting import until

pytestmark = pytest.mark.system


def rounds(client: Client) -> float:
    text = client.call("GET", "/metrics").body.decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("registry_gc_rounds_total"))


def after_rounds(client: Client, count: int = 3) -> None:
    """Wait until so many rounds have passed."""
    begin = rounds(client)
    until(lambda: rounds(client) >= begin + count)


@pytest.mark.row("REG-12")
def test_no_pull_fails_and_nothing_leaks_under_load() -> None:
    registry = server(grace="1s", interval="250ms")
    try:
        load = Load(registry.start(), seed=1)
        load.run(3)
        load.check_end(60)
        assert not load.failures
        assert load.counts["pulls"] > 0 and load.counts["pushes"] > 0
    finally:
        registry.close()


def test_a_registry_killed_under_load_repairs_itself() -> None:
    registry = server(grace="2s", interval="100ms")
    try:
        load = Load(registry.start(), seed=2)
        load.run(2, kills=2)
        assert not load.failures
        after_rounds(registry.client())
        assert not [digest for digest in registry.blob_files() if not known(registry, digest)]
    finally:
        registry.close()


def known(registry: RegistryServer, digest: str) -> bool:
    """Whether the database has a row of a file; a file may go between the look at the disk and this one."""
    import sqlite3

    connection = sqlite3.connect(registry.root / "registry.db")
    try:
        found = connection.execute("SELECT 1 FROM blobs WHERE digest = ?", (digest,)).fetchone()
    finally:
        connection.close()
    return found is not None or digest not in registry.blob_files()


def test_blobs_wait_for_their_manifest_within_the_grace() -> None:
    registry = server(grace="1h", interval="50ms")
    try:
        client = registry.start().client()
        blob = client.push_blob("a", b"early")
        after_rounds(client)
        assert client.call("HEAD", f"/v2/a/blobs/{blob['digest']}").status == 200
    finally:
        registry.close()


def test_a_running_registry_frees_the_space_of_deleted_tags_and_abandoned_uploads() -> None:
    registry = server(grace="2s", interval="200ms")
    try:
        client = registry.start().client()
        client.push_image("a", "v1", [b"layer of a"])
        client.push_image("a", "v2", [b"another layer"])
        client.call("DELETE", "/v2/a/manifests/v1")
        location = client.call("POST", "/v2/b/blobs/uploads/").headers["Location"]
        client.call("PATCH", location, b"part")
        until(lambda: digest_of(b"layer of a") not in registry.blob_files())
        assert digest_of(b"another layer") in registry.blob_files()
        until(lambda: not list((registry.root / "uploads").iterdir()))
        assert client.call("GET", location).status == 404
    finally:
        registry.close()


def test_a_lost_file_is_reported_and_can_be_pushed_again() -> None:
    registry = RegistryServer()
    try:
        client = registry.start().client()
        client.push_image("a", "v1", [b"precious"])
        digest = digest_of(b"precious")
        registry.stop()
        next((registry.root / "blobs").glob(f"sha256/*/{digest.partition(':')[2]}")).unlink()
        registry.start()
        assert "files of 1 blobs are missing" in registry.log.read_text()
        assert client.call("HEAD", f"/v2/a/blobs/{digest}").status == 404
        client.push_blob("a", b"precious")
        manifest = client.call("GET", "/v2/a/manifests/v1", headers={"Accept": OCI_MANIFEST})
        assert json.loads(manifest.body)["layers"][0]["digest"] == digest
        assert client.call("GET", f"/v2/a/blobs/{digest}").body == b"precious"
    finally:
        registry.close()
