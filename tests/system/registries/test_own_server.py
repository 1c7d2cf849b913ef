"""Our engine and our registry: TLS of an own authority, users, tokens, rules, and how much moves at once."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from harness.engine import Engine
from harness.images import import_busybox
from harness.netns import entered
from harness.platforms import tar_of
from harness.registry_server import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, RegistryServer, digest_of
from harness.waiting import until

pytestmark = pytest.mark.system
USERS = {"ada": "lovelace", "bob": "builder", "eve": "drop"}
RULES = [
    {"repositories": ["public/*"], "users": ["anonymous"], "actions": ["pull"]},
    {"repositories": ["*"], "users": ["ada"], "actions": ["*"]},
    {"repositories": ["team/*"], "users": ["bob"], "actions": ["pull", "push"]},
    {"repositories": ["team/*"], "users": ["eve"], "actions": ["pull"]},
]
ADDRESS = "192.168.57.1"  # not loopback, which needs no authority
PORTS = {"basic": 5443, "tokens": 5444}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        engine.namespace.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CA, and a server's certificate of it."""
    place = tmp_path_factory.mktemp("authority")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=place)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=own authority")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (place / "names").write_text(f"subjectAltName=DNS:localhost,IP:{ADDRESS}\n")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt")
    return {name: place / name for name in ("ca.crt", "server.crt", "server.key")}


@pytest.fixture(params=["basic", "tokens"])
def registry(
    request: pytest.FixtureRequest, engine: Engine, authority: dict[str, Path], tmp_path: Path
) -> Iterator[RegistryServer]:
    """A registry with TLS and rules, whose users show passwords, or tokens that it issues."""
    lines = [f"{user}:{bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode()}" for user, secret in USERS.items()]
    (tmp_path / "htpasswd").write_text("\n".join(lines))
    port = PORTS[request.param]
    auth: dict[str, Any] = {"htpasswd": {"realm": "Own", "path": str(tmp_path / "htpasswd")}}
    if request.param == "tokens":
        auth["issuer"] = {"service": "own"}
    tls = {"certificate": str(authority["server.crt"]), "key": str(authority["server.key"])}
    server = RegistryServer(
        {"auth": auth, "access": RULES, "http": {"tls": tls}, "storage": {"delete": {"enabled": True}}},
        prefix=engine.namespace.prefix(),
        environment={"REGISTRY_HTTP_ADDR": f"0.0.0.0:{port}"},
    )
    try:
        yield server.start()
    finally:
        server.close()


def curl(engine: Engine, registry: RegistryServer, path: str, *options: str, user: str = "ada") -> str:
    """Ask the registry as a user; return the head and the body."""
    token = ""
    if registry.port == PORTS["tokens"]:
        scopes = "&".join(f"scope=repository:{name}:pull,push,delete" for name in ("team/app", "team/copy"))
        answer = curl_raw(engine, f"{registry.url}/token?service=own&{scopes}", "-u", f"{user}:{USERS[user]}")
        token = json.loads(answer.rpartition("\n\n")[2])["token"]
    who = ("-H", f"Authorization: Bearer {token}") if token else ("-u", f"{user}:{USERS[user]}")
    return curl_raw(engine, f"{registry.url}{path}", *who, *options)


def curl_raw(engine: Engine, url: str, *options: str) -> str:
    return engine.namespace.run("curl", "-ski", "--max-time", "60", *options, url).stdout


@pytest.mark.row("REG-01")
@pytest.mark.row("REG-06")
@pytest.mark.row("REG-09")
@pytest.mark.row("REG-13")
def test_images_go_through_our_registry_as_its_rules_say_and_keep_their_digests(
    engine: Engine, registry: RegistryServer, authority: dict[str, Path]
) -> None:
    host = f"{ADDRESS}:{registry.port}"
    app, copy, secret = (f"{host}/{name}" for name in ("team/app:1", "team/copy:1", "secret/app:1"))
    for name in (app, copy, secret):
        engine.docker("tag", "busybox", name)
    untrusted = engine.boxship("push", app, check=False).stderr
    assert "x509: certificate signed by unknown authority" in untrusted
    place = engine.root / "certs.d" / host
    place.mkdir(parents=True, exist_ok=True)
    (place / "ca.crt").write_bytes(authority["ca.crt"].read_bytes())
    engine.boxship("login", "-u", "bob", "--password-stdin", host, input="builder")
    pushed = engine.boxship("push", app).stdout
    digest = re.search(r"digest: (sha256:\w+)", pushed)[1]
    assert f"digest: {digest}" in (second := engine.docker("push", copy).stdout)
    assert "Mounted from team/app" in second
    denied = engine.docker("push", secret, check=False)
    assert denied.returncode == 1
    assert denied.stderr == "denied: requested access to the resource is denied\n"

    engine.boxship("login", "-u", "eve", "--password-stdin", host, input="drop")
    engine.docker("rmi", "--force", app, copy, secret)
    assert f"Digest: {digest}" in engine.docker("pull", app).stdout
    assert engine.docker("push", app, check=False).returncode == 1
    engine.boxship("logout", host)
    engine.docker("rmi", "--force", app)
    assert engine.docker("pull", app, check=False).returncode == 1

    signature = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.example.signature",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2},
            "layers": [],
            "subject": {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1},
        }
    )
    begun = curl(engine, registry, f"/v2/team/app/blobs/uploads/?digest={digest_of(b'{}')}", "-X", "POST", "-d", "{}")
    assert begun.startswith("HTTP/1.1 201"), begun
    path = f"/v2/team/app/manifests/{digest_of(signature.encode())}"
    put = curl(engine, registry, path, "-X", "PUT", "-H", f"Content-Type: {OCI_MANIFEST}", "-d", signature)
    assert put.startswith("HTTP/1.1 201"), put
    found = curl(engine, registry, f"/v2/team/app/referrers/{digest}", user="bob")
    assert json.loads(found.rpartition("\n\n")[2])["manifests"][0]["digest"] == digest_of(signature.encode())

    cosigned = json.dumps(
        {**json.loads(signature), "artifactType": "", "subject": None, "annotations": {"by": "cosign"}}
    )
    tag = f"/v2/team/app/manifests/{digest.replace(':', '-')}.sig"
    put = curl(engine, registry, tag, "-X", "PUT", "-H", f"Content-Type: {OCI_MANIFEST}", "-d", cosigned)
    assert put.startswith("HTTP/1.1 201"), put
    engine.boxship("login", "-u", "eve", "--password-stdin", host, input="drop")
    rows = [line.split() for line in engine.boxship("image", "referrers", app).stdout.splitlines()]
    assert rows[0] == ["DIGEST", "ARTIFACT", "TYPE", "SIZE"]
    assert {(row[0], row[1]) for row in rows[1:]} == {
        (digest_of(signature.encode()), "application/vnd.example.signature"),
        (digest_of(cosigned.encode()), "application/vnd.oci.empty.v1+json"),
    }
    refused = engine.boxship("image", "referrers", f"{host}/secret/app:1", check=False)
    assert refused.returncode == 1

    gone = curl(engine, registry, f"/v2/team/app/manifests/{digest}", "-X", "DELETE")
    assert gone.startswith("HTTP/1.1 202"), gone
    engine.boxship("login", "-u", "bob", "--password-stdin", host, input="builder")
    missing = engine.docker("pull", app, check=False)
    assert "manifest unknown" in missing.stderr
    assert f"Digest: {digest}" in engine.docker("pull", copy).stdout
    engine.docker("rmi", "--force", copy)
    engine.boxship("logout", host)


class Slow(BaseHTTPRequestHandler):
    """A registry of one image that counts who asks for layers at the same time, and answers when it may."""

    protocol_version = "HTTP/1.1"
    blobs: dict[str, bytes] = {}
    manifest = b""
    guard = threading.Condition()
    waiting = 0
    open = 0  # how many may go on
    most = 0  # that waited at the same time

    def do_GET(self) -> None:
        kind, _, name = self.path.rpartition("/")
        if kind.endswith("/manifests"):
            return self.answer(200, self.manifest, OCI_MANIFEST)
        if kind.endswith("/blobs") and name in self.blobs:
            if self.blobs[name].startswith(b"{"):
                return self.answer(200, self.blobs[name])
            with self.guard:
                type(self).waiting += 1
                type(self).most = max(self.most, self.waiting)
                self.guard.wait_for(lambda: self.open > 0, timeout=60)
                type(self).open -= 1
                type(self).waiting -= 1
            return self.answer(200, self.blobs[name])
        return self.answer(200, b"{}")

    def answer(self, status: int, body: bytes, media_type: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow(engine: Engine) -> Iterator[str]:
    """Serve an image of six layers; return its name."""
    layers = [tar_of(**{f"file{number}": "x" * 100}) for number in range(6)]
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(one) for one in layers]},
        }
    ).encode()
    Slow.blobs = {digest_of(data): data for data in (config, *layers)}
    descriptors = [{"mediaType": OCI_LAYER, "digest": digest_of(one), "size": len(one)} for one in layers]
    Slow.manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": descriptors,
        }
    ).encode()
    with entered(engine.namespace):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"localhost:{server.server_port}/six/layers:1"
    Slow.open = 1000
    server.shutdown()
    thread.join()
    server.server_close()


def give(count: int) -> None:
    with Slow.guard:
        Slow.open += count
        Slow.guard.notify_all()


def reload(engine: Engine, **settings: object) -> None:
    (engine.root / "daemon.json").write_text(json.dumps(settings))
    before = engine.log_text().count("Reloaded configuration")
    assert engine.process is not None
    engine.process.send_signal(signal.SIGHUP)
    until(lambda: engine.log_text().count("Reloaded configuration") > before)


@pytest.mark.row("ENG-06")
@pytest.mark.row("ENG-18")
@pytest.mark.row("REG-16")
def test_as_many_downloads_run_at_once_as_the_settings_say_also_new_ones(engine: Engine, slow: str) -> None:
    reload(engine, **{"max-concurrent-downloads": 1})
    done: list[subprocess.CompletedProcess[str]] = []
    puller = threading.Thread(target=lambda: done.append(engine.docker("pull", slow, check=False)))
    puller.start()
    try:
        until(lambda: Slow.waiting == 1)
        give(1)
        until(lambda: Slow.waiting == 1 and Slow.open == 0)
        assert Slow.most == 1
        reload(engine, **{"max-concurrent-downloads": 4})
        give(1)  # the settings are asked at the next turn
        until(lambda: Slow.waiting == 4)
    finally:
        give(100)
        puller.join()
    assert done[0].returncode == 0, done[0].stderr
    engine.docker("rmi", slow)
    reload(engine)
