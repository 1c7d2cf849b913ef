"""The registry in operation: configuration, webhooks, metrics, the cache of another registry, crashes and a full disk."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.base import failpoints
from boxship.registry.server.htpasswd import make_line
from harness.engine import SOURCE
from harness.registry_server import OCI_MANIFEST, RegistryServer, digest_of
from harness.waiting import until

pytestmark = pytest.mark.system

ACCEPT = {"Accept": OCI_MANIFEST}


@contextlib.contextmanager
def running(config: dict[str, Any] | None = None, **options: Any) -> Iterator[RegistryServer]:
    server = RegistryServer(config, **options)
    try:
        yield server.start()
    finally:
        server.close()


class Hook(http.server.ThreadingHTTPServer):
    """Takes events; the first ``failures`` requests are answered with 500."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        self.types: set[str] = set()
        self.failures = failures
        super().__init__(("127.0.0.1", 0), _HookHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/events"


class _HookHandler(http.server.BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.types.add(self.headers["Content-Type"])
        failed = self.server.failures > 0
        self.server.failures -= 1
        if not failed:
            self.server.events += body["events"]
        self.send_response(500 if failed else 200)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook(failures=2)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.row("REG-17")
def test_webhooks_tell_of_pushes_pulls_and_deletions_until_they_are_heard(hook: Hook) -> None:
    endpoint = {"name": "test", "url": hook.url, "backoff": "10ms", "headers": {"Authorization": ["Bearer x"]}}
    with running({"notifications": {"endpoints": [endpoint]}}) as server:
        client = server.client()
        pushed = client.push_image("a/b", "v1")
        client.call("GET", "/v2/a/b/manifests/v1", headers=ACCEPT)
        client.call("DELETE", f"/v2/a/b/manifests/{pushed['digest']}")
        until(lambda: [event["action"] for event in hook.events][-1:] == ["delete"])
        manifests = [event for event in hook.events if event["target"].get("mediaType") == OCI_MANIFEST]
        assert [event["action"] for event in manifests] == ["push", "pull"]
        target = manifests[0]["target"]
        assert (target["repository"], target["tag"], target["digest"]) == ("a/b", "v1", pushed["digest"])
        assert target["size"] == target["length"] == pushed["size"]
        assert manifests[0]["request"]["method"] == "PUT"
        assert hook.types == {"application/vnd.docker.distribution.events.v1+json"}


@pytest.mark.row("REG-12")
def test_metrics_and_health() -> None:
    with running() as server:
        client = server.client()
        client.push_image("a", "v1", [b"x" * 1000])
        text = client.call("GET", "/metrics").body.decode()
        assert "registry_repositories 1.0" in text
        assert "registry_blobs 2.0" in text
        assert 'registry_http_requests_total{code="201",handler="manifest",method="PUT"} 1.0' in text
        assert client.call("GET", "/healthz").status == 200


def run_registry(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "boxship.registry.server", *words],
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(tmp_path),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_reference_registry_s_own_configuration_is_taken() -> None:
    config = {
        "version": 0.1,
        "log": {"fields": {"service": "registry"}},
        "storage": {"cache": {"blobdescriptor": "inmemory"}, "filesystem": {"rootdirectory": "/var/lib/registry"}},
        "http": {"addr": ":5000", "headers": {"X-Content-Type-Options": ["nosniff"]}},
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }
    with running(config) as server:
        assert server.client().call("GET", "/v2/").headers["X-Content-Type-Options"] == "nosniff"


def test_deletion_is_switched_off_by_the_variable() -> None:
    with running(environment={"REGISTRY_STORAGE_DELETE_ENABLED": "false"}) as server:
        client = server.client()
        pushed = client.push_image("a", "v1")
        answer = client.call("DELETE", f"/v2/a/manifests/{pushed['digest']}")
        assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"])


def test_one_directory_has_one_registry() -> None:
    with running() as server:
        done = run_registry(server.root, "serve", REGISTRY_HTTP_ADDR="127.0.0.1:0")
        assert (done.returncode, "another registry serves" in done.stderr) == (1, True)


def test_garbage_is_collected_without_a_server_too() -> None:
    with running() as server:
        client = server.client()
        client.push_image("a", "v1", [b"kept"])
        client.push_blob("a", b"stray")
        server.stop()
        done = run_registry(server.root, "garbage-collect", REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_GRACE="0s")
        assert (done.returncode, "blobs: 1" in done.stdout.splitlines()) == (0, True)
        assert digest_of(b"kept") in server.blob_files()
        assert digest_of(b"stray") not in server.blob_files()


def test_an_upload_goes_on_after_a_crash() -> None:
    with running() as server:
        client = server.client()
        location = client.call("POST", "/v2/a/blobs/uploads/").headers["Location"]
        client.call("PATCH", location, b"first ")
        server.kill()
        server.start()
        assert client.call("GET", location).headers["Range"] == "0-5"
        headers = {"Content-Range": "6-11"}
        assert client.call("PATCH", location, b"second", headers).status == 202
        assert client.call("PUT", location, digest=digest_of(b"first second")).status == 201
        assert client.call("GET", f"/v2/a/blobs/{digest_of(b'first second')}").body == b"first second"


def test_a_blob_above_the_limit_is_refused_however_it_comes() -> None:
    with running({"limits": {"blob": 1000, "manifest": 500}}) as server:
        client = server.client()
        client.push_blob("a", bytes(1000))
        large = bytes(1001)
        whole = client.call("POST", "/v2/a/blobs/uploads/", large, digest=digest_of(large))
        assert (whole.status, whole.codes) == (413, ["SIZE_INVALID"])
        location = client.call("POST", "/v2/a/blobs/uploads/").headers["Location"]
        assert client.call("PATCH", location, bytes(600)).status == 202
        assert client.call("PATCH", location, bytes(401), {"Content-Range": "600-1000"}).status == 413
        assert client.call("PATCH", location, iter([bytes(200), bytes(201)])).status == 413  # of unknown length
        assert client.call("GET", location).headers["Range"] == "0-599"
        put = client.call("PUT", location, bytes(401), digest=digest_of(large))
        assert put.status == 413
        rest = client.call("PUT", location, bytes(400), digest=digest_of(bytes(1000)))
        assert rest.status == 201
        manifest = client.call("PUT", "/v2/a/manifests/v1", b" " * 501, {"Content-Type": OCI_MANIFEST})
        assert (manifest.status, manifest.codes) == (413, ["MANIFEST_INVALID"])
        assert sorted(server.blob_files()) == [digest_of(bytes(1000))]
        assert list((server.root / "uploads").iterdir()) == []


def test_more_uploads_than_the_limit_wait_for_others_to_end() -> None:
    with running({"limits": {"uploads": 3}}) as server:
        client = server.client()
        places = [client.call("POST", "/v2/a/blobs/uploads/").headers["Location"] for _ in range(3)]
        refused = client.call("POST", "/v2/a/blobs/uploads/")
        assert (refused.status, refused.codes) == (429, ["TOOMANYREQUESTS"])
        server.kill()
        server.start()  # they are under way still
        assert client.call("POST", "/v2/a/blobs/uploads/").status == 429
        assert client.call("DELETE", places[0]).status == 204
        assert client.call("PUT", places[1], b"one", digest=digest_of(b"one")).status == 201
        for _ in range(2):
            assert client.call("POST", "/v2/a/blobs/uploads/").status == 202
        assert client.call("POST", "/v2/a/blobs/uploads/").status == 429


def test_uploads_of_one_user_leave_room_for_others(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("\n".join(make_line(name, "x") for name in ("eve", "ada")))
    config = {"limits": {"useruploads": 2}, "auth": {"htpasswd": {"path": str(users)}}}
    with running(config) as server:
        secrets = [base64.b64encode(f"{name}:x".encode()).decode() for name in ("eve", "ada")]
        eve, ada = (server.client(authorization=f"Basic {secret}") for secret in secrets)
        assert [eve.call("POST", "/v2/a/blobs/uploads/").status for _ in range(3)] == [202, 202, 429]
        assert ada.call("POST", "/v2/a/blobs/uploads/").status == 202


@pytest.mark.parametrize("enabled", [True, False])
def test_uploads_that_nobody_continues_go_and_make_room(enabled: bool) -> None:
    maintenance = {
        "uploadpurging": {"age": "100ms"},
        "garbagecollection": {"enabled": enabled, "interval": "50ms"},
    }
    with running({"limits": {"uploads": 1}, "storage": {"maintenance": maintenance}}) as server:
        client = server.client()
        location = client.call("POST", "/v2/a/blobs/uploads/").headers["Location"]
        until(lambda: client.call("GET", location).status == 404)
        assert list((server.root / "uploads").iterdir()) == []
        assert client.call("POST", "/v2/a/blobs/uploads/").status == 202


def test_what_arrived_before_the_client_broke_off_is_kept() -> None:
    with running() as server:
        client = server.client()
        location = client.call("POST", "/v2/a/blobs/uploads/").headers["Location"]
        connection = client.connect()
        connection.putrequest("PATCH", location)
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"half")
        until(lambda: b"registry_upload_bytes_total 4.0" in client.call("GET", "/metrics").body)
        connection.close()
        until(lambda: client.call("GET", location).headers["Range"] == "0-3")
        done = client.call("PATCH", location, b" and half", {"Content-Range": "4-12"})
        assert (done.status, done.headers["Range"]) == (202, "0-12")


def test_a_file_that_no_row_names_is_removed_at_the_start() -> None:
    with running() as server:
        server.client().push_image("a", "v1")
        server.kill()
        before = server.blob_files()
        stray = server.root / "blobs/sha256/ab" / ("ab" * 32)
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"left by a crash")
        server.start()
        assert server.blob_files() == before


@pytest.mark.parametrize("name", sorted(name for name in failpoints.NAMES if name.startswith("registry.")))
def test_a_registry_that_dies_anywhere_goes_on_whole(name: str) -> None:
    eager = {"maintenance": {"garbagecollection": {"interval": "100ms", "grace": "500ms"}}}
    server = RegistryServer({"storage": eager}, environment={"BOXSHIP_FAILPOINT": name})
    try:
        client = server.start().client()
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):  # it dies, or has no patience
            client.push_image("a", "v1", [b"layer"])
            client.call("DELETE", "/v2/a/manifests/v1")
        assert server.process is not None
        server.process.wait(30)
        server.process = None
        server.config = {"storage": {"maintenance": {"garbagecollection": {"interval": "100ms"}}}}
        server.restart_without_failpoint()
        if name.startswith("registry.collect"):
            until(lambda: not server.blob_files())
        rows = sqlite3.connect(server.root / "registry.db")
        try:
            assert server.blob_files() == {row[0] for row in rows.execute("SELECT digest FROM blobs")}
        finally:
            rows.close()
        client.push_image("a", "v1", [b"layer"])
        answer = client.call("GET", "/v2/a/manifests/v1", headers=ACCEPT)
        for item in (answer.json["config"], *answer.json["layers"]):
            assert digest_of(client.call("GET", f"/v2/a/blobs/{item['digest']}").body) == item["digest"]
    finally:
        server.close()


def test_a_full_disk_fails_the_upload_and_nothing_else(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)], check=True)
    server = RegistryServer()
    server.root = mount / "root"
    try:
        client = server.start().client()
        client.push_image("a", "v1", [b"small"])
        data = os.urandom(9 * 1024 * 1024)
        location = client.call("POST", "/v2/a/blobs/uploads/").headers["Location"]
        answer = client.call("PUT", location, data, digest=digest_of(data))
        assert (answer.status, answer.codes) == (507, ["UNKNOWN"])
        assert not list((server.root / "uploads").iterdir())
        assert client.call("GET", f"/v2/a/blobs/{digest_of(b'small')}").body == b"small"
        filler = mount / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        assert client.call("POST", "/v2/a/blobs/uploads/").status in (202, 507)
        assert client.call("GET", "/v2/a/manifests/v1", headers=ACCEPT).status == 200
        assert client.call("DELETE", "/v2/a/manifests/v1").status == 202
        filler.unlink()
        client.push_image("a", "v2", [b"again"])
    finally:
        server.close()
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_large_blob_does_not_pass_through_memory() -> None:
    with running() as server:
        client = server.client()
        assert server.process is not None
        status = Path(f"/proc/{server.process.pid}/status")

        def resident() -> int:
            return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))

        client.push_blob("a", b"warm" * 1_000_000)
        before = resident()
        piece = os.urandom(1024 * 1024)
        data = piece * 96
        blob = client.push_blob("a", data)
        assert client.call("GET", f"/v2/a/blobs/{blob['digest']}").body == data
        assert resident() - before < 32 * 1024


# the cache of another registry


@pytest.fixture
def upstream() -> Iterator[RegistryServer]:
    with running() as server:
        yield server


@pytest.mark.row("REG-14")
def test_what_was_pulled_through_is_served_when_the_other_registry_is_gone(upstream: RegistryServer) -> None:
    layer = os.urandom(3_000_000)
    pushed = upstream.client().push_image("library/app", "v1", [layer])
    with running({"proxy": {"remoteurl": upstream.url}}) as cache:
        client = cache.client()
        for _ in range(2):
            assert (
                digest_of(client.call("GET", "/v2/library/app/manifests/v1", headers=ACCEPT).body) == pushed["digest"]
            )
            assert client.call("GET", f"/v2/library/app/blobs/{digest_of(layer)}").body == layer
            until(lambda: digest_of(layer) in cache.blob_files())
        upstream.kill()
        assert digest_of(client.call("GET", "/v2/library/app/manifests/v1", headers=ACCEPT).body) == pushed["digest"]
        assert client.call("GET", f"/v2/library/app/blobs/{digest_of(layer)}").body == layer
        assert client.call("GET", "/v2/library/app/manifests/v2").status == 503


def test_a_tag_that_moved_there_moves_here(upstream: RegistryServer) -> None:
    upstream.client().push_image("app", "latest", [b"old"])
    with running({"proxy": {"remoteurl": upstream.url}}) as cache:
        path = "/v2/app/manifests/latest"
        cache.client().call("GET", path, headers=ACCEPT)
        moved = upstream.client().push_image("app", "latest", [b"new"])
        assert cache.client().call("GET", path, headers=ACCEPT).headers["Docker-Content-Digest"] == moved["digest"]


def test_a_cache_forgets_what_is_older_than_its_ttl(upstream: RegistryServer) -> None:
    pushed = upstream.client().push_image("app", "latest", [b"cached"])
    collection = {"maintenance": {"garbagecollection": {"interval": "100ms"}}}
    with running({"proxy": {"remoteurl": upstream.url, "ttl": "1s"}, "storage": collection}) as cache:
        client = cache.client()
        path = "/v2/app/manifests/latest"
        assert client.call("GET", path, headers=ACCEPT).headers["Docker-Content-Digest"] == pushed["digest"]
        assert client.call("GET", f"/v2/app/blobs/{digest_of(b'cached')}").body == b"cached"
        until(lambda: b"registry_manifests 0.0" in client.call("GET", "/metrics").body and not cache.blob_files())
        assert client.call("GET", path, headers=ACCEPT).headers["Docker-Content-Digest"] == pushed["digest"]


@pytest.mark.parametrize("auth", [{}, {"issuer": {}}], ids=["password", "token"])
def test_a_cache_signs_in_where_it_fetches(tmp_path: Path, auth: dict[str, Any]) -> None:
    users = tmp_path / "htpasswd"
    users.write_text(make_line("cache", "secret"))
    with running({"auth": {"htpasswd": {"path": str(users)}, **auth}}) as origin:
        admin = "Basic " + base64.b64encode(b"cache:secret").decode()
        if auth:
            answer = origin.client(authorization=admin).call(
                "GET", "/token?service=registry&scope=repository:app:pull,push"
            )
            admin = f"Bearer {answer.json['token']}"
        origin.client(authorization=admin).push_image("app", "v1", [b"guarded"])
        known = {"remoteurl": origin.url, "username": "cache", "password": "secret"}
        with running({"proxy": known}) as cache:
            assert cache.client().call("GET", "/v2/app/manifests/v1", headers=ACCEPT).status == 200
            assert cache.client().call("GET", f"/v2/app/blobs/{digest_of(b'guarded')}").body == b"guarded"
        with running({"proxy": {"remoteurl": origin.url}}) as stranger:
            assert stranger.client().call("GET", "/v2/app/manifests/v1", headers=ACCEPT).status == 404


def test_a_cache_takes_no_pushes(upstream: RegistryServer) -> None:
    with running({"proxy": {"remoteurl": upstream.url}}) as cache:
        answer = cache.client().call("POST", "/v2/app/blobs/uploads/")
        assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"])


def test_several_clients_share_one_download(upstream: RegistryServer) -> None:
    layer = os.urandom(8_000_000)
    upstream.client().push_image("app", "v1", [layer])
    with running({"proxy": {"remoteurl": upstream.url}}) as cache:
        answers: list[bytes] = []
        path = f"/v2/app/blobs/{digest_of(layer)}"
        threads = [
            threading.Thread(target=lambda: answers.append(cache.client().call("GET", path).body)) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [digest_of(body) for body in answers] == [digest_of(layer)] * 5


def test_a_blob_that_lies_about_its_digest_is_not_kept(upstream: RegistryServer) -> None:
    upstream.client().push_image("app", "v1", [b"honest!"])
    digest = digest_of(b"honest!")
    (path,) = (upstream.root / "blobs").glob(f"sha256/*/{digest.partition(':')[2]}")
    path.chmod(0o600)
    path.write_bytes(b"changed")
    with running({"proxy": {"remoteurl": upstream.url}}) as cache:
        cache.client().call("GET", "/v2/app/manifests/v1", headers=ACCEPT)
        with contextlib.suppress(OSError, http.client.HTTPException):
            cache.client().call("GET", f"/v2/app/blobs/{digest}")
        until(lambda: not list((cache.root / "uploads").iterdir()))
        assert digest not in cache.blob_files()
