"""Clients that push, pull and delete all the time while a registry collects garbage, and the oracle that watches them.

Whoever pulls a tag holds its lock as a reader, whoever moves or deletes it as the only one: so a tag that a client finds
must stay pullable to its last blob, whatever is collected meanwhile. At the end the files on disk must be exactly what the
remaining tags need.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.registry_server import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, RegistryServer, digest_of
from harness.waiting import until

CLIENTS = 8
REPOSITORIES = 4
TAGS = 6
SHARED = [random.Random(seed).randbytes(20_000 + 40_000 * seed) for seed in range(6)]  # layers that many images have


def server(*, grace: str, interval: str) -> RegistryServer:
    """A registry that collects often and keeps nothing without a tag."""
    collection = {"grace": grace, "interval": interval, "untagged": "all"}
    return RegistryServer(
        {
            "log": {"accesslog": {"disabled": True}},
            "storage": {"maintenance": {"garbagecollection": collection, "uploadpurging": {"age": grace}}},
        }
    )


class _Tag:
    """A readers-writer lock, and what the tag is known to hold."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writing = False
        self.digest = ""  # "" when the tag is not there

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._writing)
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._writing and not self._readers)
            self._writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()


@dataclass
class Load:
    """All clients of one run; ``failures`` holds what must never happen."""

    registry: RegistryServer
    seed: int = 0
    failures: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("pushes", "pulls", "deletes", "late"), 0))

    def __post_init__(self) -> None:
        self._tags = {(f"load/r{r}", f"t{t}"): _Tag() for r in range(REPOSITORIES) for t in range(TAGS)}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._up = threading.Event()  # clear while the registry is being killed and started again
        self._up.set()

    def run(self, seconds: float, *, kills: int = 0) -> None:
        """Let the clients work for a while; the registry is killed so many times meanwhile."""
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        chance = random.Random(self.seed)
        try:
            for _ in range(kills):
                self._stop.wait(seconds / (kills + 1) * chance.uniform(0.5, 1.0))
                self._up.clear()
                self.registry.kill()
                self.registry.start()
                self._up.set()
            self._stop.wait(seconds / (kills + 1))
        finally:
            self._up.set()
            self._stop.set()
            for thread in threads:
                thread.join(60)

    def check_end(self, seconds: float) -> None:
        """Pull every tag, then wait until nothing is on disk that no tag needs."""
        connection = self._connect()
        needed: set[str] = set()
        try:
            for (repository, name), tag in self._tags.items():
                if tag.digest:
                    needed |= self._pull(connection, repository, name, tag.digest)
        finally:
            connection.close()
        assert not self.failures, self.failures[:5]
        until(lambda: self.registry.blob_files() == needed and not self._uploads(), seconds)

    def _uploads(self) -> list[Any]:
        return list((self.registry.root / "uploads").iterdir())

    def _client(self, number: int) -> None:
        chance = random.Random(f"{self.seed} {number}")
        connection = self._connect()
        try:
            while not self._stop.is_set():
                self._up.wait()
                key = chance.choice(list(self._tags))
                action = chance.choices((self._push, self._pull_tag, self._delete, self._abandon), (3, 5, 1, 1))[0]
                try:
                    action(connection, chance, *key)
                except (OSError, http.client.HTTPException):
                    connection.close()
                    if self._up.is_set() and self.registry.process is not None and not self._lost_by_kill():
                        self._fail(f"client {number}: the connection broke")
                    connection = self._connect()
        except Exception as exc:
            self._fail(f"client {number}: {exc!r}")
        finally:
            connection.close()

    def _lost_by_kill(self) -> bool:
        """Whether the registry was started more than once: connections may then break at any time."""
        return self.registry.log.read_bytes().count(b"listening on") > 1

    def _push(self, connection: http.client.HTTPConnection, chance: random.Random, repository: str, name: str) -> None:
        layers = [*chance.sample(SHARED, 2), chance.randbytes(chance.randrange(1, 200_000))]
        config = json.dumps({"os": "linux", "architecture": "amd64", "id": chance.random()}).encode()
        tag = self._tags[repository, name]
        with tag.writing():
            blobs = [self._upload(connection, chance, repository, data) for data in (config, *layers)]
            manifest = {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {**blobs[0], "mediaType": OCI_CONFIG},
                "layers": blobs[1:],
            }
            body = json.dumps(manifest).encode()
            path = f"/v2/{repository}/manifests/{name}"
            before, tag.digest = tag.digest, ""  # unknown if the registry dies now
            status, text = self._call(connection, "PUT", path, body, {"Content-Type": OCI_MANIFEST})
            if status == 201:
                tag.digest = digest_of(body)
                self._count("pushes")
            elif status == 400 and b"MANIFEST_BLOB_UNKNOWN" in text:
                tag.digest = before
                self._count("late")  # slower than the grace: the client is told and pushes again
            else:
                self._fail(f"push {repository}:{name}: {status} {text[:200]!r}")

    def _upload(
        self, connection: http.client.HTTPConnection, chance: random.Random, repository: str, data: bytes
    ) -> dict[str, Any]:
        digest = digest_of(data)
        descriptor = {"mediaType": OCI_LAYER, "digest": digest, "size": len(data)}
        if self._call(connection, "HEAD", f"/v2/{repository}/blobs/{digest}")[0] == 200:
            return descriptor
        source = f"load/r{chance.randrange(REPOSITORIES)}"
        query = f"?mount={digest}&from={source}" if chance.random() < 0.5 else ""
        status, location = self._begin(connection, repository, query)
        if status == 201:
            return descriptor
        if chance.random() < 0.5:
            self._call(connection, "PATCH", location, data, {"Content-Type": "application/octet-stream"})
            data = b""
        status, text = self._call(connection, "PUT", f"{location}?digest={digest}", data)
        if status != 201:
            self._fail(f"upload to {repository}: {status} {text[:200]!r}")
        return descriptor

    def _abandon(
        self, connection: http.client.HTTPConnection, chance: random.Random, repository: str, _name: str
    ) -> None:
        """Begin an upload and never end it, or upload a blob that no manifest will name."""
        _, location = self._begin(connection, repository, "")
        data = chance.randbytes(5000)
        if chance.random() < 0.5:
            self._call(connection, "PATCH", location, data)
        else:
            self._call(connection, "PUT", f"{location}?digest={digest_of(data)}", data)

    def _pull_tag(
        self, connection: http.client.HTTPConnection, _chance: random.Random, repository: str, name: str
    ) -> None:
        tag = self._tags[repository, name]
        with tag.reading():
            if tag.digest:
                self._pull(connection, repository, name, tag.digest)
                self._count("pulls")

    def _pull(self, connection: http.client.HTTPConnection, repository: str, name: str, digest: str) -> set[str]:
        status, body = self._call(connection, "GET", f"/v2/{repository}/manifests/{name}")
        if status != 200 or digest_of(body) != digest:
            self._fail(f"pull {repository}:{name}: manifest {status}")
            return set()
        manifest = json.loads(body)
        digests = {item["digest"] for item in (manifest["config"], *manifest["layers"])}
        for wanted in digests:
            status, data = self._call(connection, "GET", f"/v2/{repository}/blobs/{wanted}")
            if status != 200 or digest_of(data) != wanted:
                self._fail(f"pull {repository}:{name}: blob {wanted}: {status}")
        return digests

    def _delete(
        self, connection: http.client.HTTPConnection, chance: random.Random, repository: str, name: str
    ) -> None:
        tag = self._tags[repository, name]
        with tag.writing():
            if not tag.digest:
                return
            by_digest = chance.random() < 0.5 and not self._shared(repository, name, tag.digest)
            reference = tag.digest if by_digest else name
            tag.digest = ""
            status, text = self._call(connection, "DELETE", f"/v2/{repository}/manifests/{reference}")
            if status != 202:
                self._fail(f"delete {repository}:{name}: {status} {text[:200]!r}")
            self._count("deletes")

    def _shared(self, repository: str, name: str, digest: str) -> bool:
        return any(
            key != (repository, name) and key[0] == repository and tag.digest == digest
            for key, tag in self._tags.items()
        )

    def _begin(self, connection: http.client.HTTPConnection, repository: str, query: str) -> tuple[int, str]:
        connection.request("POST", f"/v2/{repository}/blobs/uploads/{query}", headers={"Content-Length": "0"})
        response = connection.getresponse()
        response.read()
        return response.status, response.headers.get("Location", "")

    def _call(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.registry.port, timeout=60)

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def _fail(self, text: str) -> None:
        with self._lock:
            self.failures.append(text)


def main(minutes: float, kills: int, report: Callable[[str], None]) -> int:
    """Run the load for a while and report; return the exit status."""
    registry = server(grace="20s", interval="1s")
    try:
        load = Load(registry.start(), seed=int(time.time()))
        load.run(minutes * 60, kills=kills)
        begun = time.monotonic()
        load.check_end(300)
        report(f"{minutes:g} minutes, {CLIENTS} clients, {kills} kills: {load.counts}")
        report(f"failed: 0; everything unneeded was gone {time.monotonic() - begun:.0f} s after the end")
        for line in registry.client().call("GET", "/metrics").body.decode().splitlines():
            if line.startswith(("registry_gc", "registry_blob")):
                report(line)
        return 0
    finally:
        registry.close()
