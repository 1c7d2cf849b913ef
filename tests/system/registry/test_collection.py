"""Garbage collection while clients work, and after they are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from harness.registry_load import Load, server
from harness.registry_server import OCI_INDEX, OCI_MANIFEST, Client, RegistryServer, digest_of
from harness.waiting import until

pytestmark = pytest.mark.system


@pytest.fixture
def eager() -> Iterator[RegistryServer]:
    """A registry that collects every fifth of a second, and has no patience."""
    registry = server(grace="2s", interval="200ms")
    try:
        yield registry.start()
    finally:
        registry.close()


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
        load.run(4)
        load.check_end(60)
        assert not load.failures
        assert load.counts["pulls"] > 0 and load.counts["pushes"] > 0
    finally:
        registry.close()


def test_a_registry_killed_under_load_repairs_itself() -> None:
    registry = server(grace="2s", interval="100ms")
    try:
        load = Load(registry.start(), seed=2)
        load.run(3, kills=2)
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


def test_deleting_the_last_tag_frees_the_space(eager: RegistryServer) -> None:
    client = eager.client()
    client.push_image("a", "v1", [b"layer of a"])
    client.push_image("a", "v2", [b"another layer"])
    client.call("DELETE", "/v2/a/manifests/v1")
    until(lambda: digest_of(b"layer of a") not in eager.blob_files())
    assert digest_of(b"another layer") in eager.blob_files()


def test_a_blob_that_another_repository_has_stays(eager: RegistryServer) -> None:
    client = eager.client()
    pushed = client.push_image("a", "v1", [b"shared"])
    client.push_image("b", "v1", [b"shared"])
    client.call("DELETE", f"/v2/a/manifests/{pushed['digest']}")
    until(lambda: client.call("GET", f"/v2/a/blobs/{digest_of(b'shared')}").status == 404)
    assert client.call("GET", f"/v2/b/blobs/{digest_of(b'shared')}").body == b"shared"


def test_platforms_and_signatures_live_and_die_with_their_index(eager: RegistryServer) -> None:
    client = eager.client()
    image = client.push_image("a", "", [b"for one platform"])
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image]}
    pushed = client.push_manifest("a", "all", index)
    client.push_image("a", "", [b"signature"], subject=pushed)
    stray = client.push_blob("a", b"nobody's")
    until(lambda: stray["digest"] not in eager.blob_files())
    wanted = {digest_of(b"for one platform"), digest_of(b"signature")}
    assert wanted <= eager.blob_files()
    client.call("DELETE", "/v2/a/manifests/all")
    until(lambda: not eager.blob_files())
    assert client.call("GET", "/v2/_catalog").json == {"repositories": []}


def test_what_was_never_tagged_is_kept_by_default() -> None:
    registry = RegistryServer({"storage": {"maintenance": {"garbagecollection": {"grace": "2s", "interval": "50ms"}}}})
    try:
        client = registry.start().client()
        pushed = client.push_image("a", "moving", [b"first"])
        client.push_image("a", "moving", [b"second"])
        stray = client.push_blob("a", b"nobody's")
        until(lambda: stray["digest"] not in registry.blob_files())
        head = client.call("HEAD", f"/v2/a/manifests/{pushed['digest']}", headers={"Accept": OCI_MANIFEST})
        assert head.status == 200
        assert client.call("GET", f"/v2/a/blobs/{digest_of(b'first')}").body == b"first"
    finally:
        registry.close()


def test_blobs_wait_for_their_manifest_within_the_grace() -> None:
    registry = server(grace="1h", interval="50ms")
    try:
        client = registry.start().client()
        blob = client.push_blob("a", b"early")
        after_rounds(client)
        assert client.call("HEAD", f"/v2/a/blobs/{blob['digest']}").status == 200
    finally:
        registry.close()


def test_abandoned_uploads_go(eager: RegistryServer) -> None:
    client = eager.client()
    location = client.call("POST", "/v2/a/blobs/uploads/").headers["Location"]
    client.call("PATCH", location, b"part")
    until(lambda: not list((eager.root / "uploads").iterdir()))
    assert client.call("GET", location).status == 404


def test_retention_keeps_what_its_rule_names() -> None:
    registry = RegistryServer(
        {
            "storage": {"maintenance": {"garbagecollection": {"grace": "2s", "interval": "50ms"}}},
            "retention": [{"repositories": ["ci/*"], "latest": 2, "matching": "release-.*"}],
        }
    )
    try:
        client = registry.start().client()
        for tag in ("release-1", "b1", "b2", "b3", "b4"):
            client.push_image("ci/app", tag, [tag.encode()])
            client.push_image("other", tag)
        until(lambda: client.call("GET", "/v2/ci/app/tags/list").json["tags"] == ["b3", "b4", "release-1"])
        until(lambda: digest_of(b"b1") not in registry.blob_files())
        assert len(client.call("GET", "/v2/other/tags/list").json["tags"]) == 5
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
