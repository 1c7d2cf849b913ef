"""``push ssh://`` and ``pull ssh://``: images between two engines through a real OpenSSH server, without a registry."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import hostile
from harness.engine import Engine
from harness.platforms import Multi
from harness.ssh import CLI, SshServer
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.row("IMG-25")]
BOXSHIP = (sys.executable, "-c", CLI)
SIZE = 20_000_000


@pytest.fixture(scope="module")
def far() -> Iterator[Engine]:
    """The engine on the other side of ssh."""
    engine = Engine()
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def server(engine: Engine, far: Engine) -> Iterator[SshServer]:
    try:
        server = SshServer(engine.namespace, far, port=2224)
    except RuntimeError as exc:
        pytest.skip(str(exc))
    yield server
    server.close()


@pytest.fixture
def image(engine: Engine, far: Engine, tmp_path: Path) -> Iterator[str]:
    """An image of two layers on the near engine: busybox and 20 MB that do not compress."""
    (tmp_path / "data").write_bytes(os.urandom(SIZE))
    id = engine.docker("create", "busybox", "true").stdout.strip()
    engine.docker("cp", str(tmp_path / "data"), f"{id}:/data")
    engine.docker("commit", id, "traveller:1")
    yield "traveller:1"
    for each in (engine, far):
        each.docker("rmi", "-f", "traveller:1", "other:1", check=False)


def over_ssh(engine: Engine, server: SshServer, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*engine.namespace.prefix(), *BOXSHIP, "-H", engine.host, *words],
        env=server.environment(engine.client_environment()),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def described(engine: Engine, name: str) -> tuple[str, list[str]]:
    document = engine.api("GET", f"/images/{name}/json")[1]
    return document["Id"], document["RootFS"]["Layers"]


def test_an_image_goes_there_and_back_with_its_id_and_only_once(
    engine: Engine, far: Engine, server: SshServer, image: str
) -> None:
    first = over_ssh(engine, server, "push", server.url, image)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count(": Pushed\n") == 2
    assert described(far, image) == described(engine, image)
    assert far.docker("run", "--rm", image, "wc", "-c", "/data").stdout == f"{SIZE} /data\n"
    second = over_ssh(engine, server, "push", server.url, image)
    assert (second.stdout.count(": Pushed\n"), second.stdout.count(": Already exists\n")) == (0, 2)
    kept = described(engine, image)
    engine.docker("rmi", image)
    back = over_ssh(engine, server, "pull", server.url, image)
    assert back.returncode == 0, back.stderr
    assert back.stdout.count(": Pulled\n") == 1  # busybox is here already
    assert described(engine, image) == kept


def test_several_images_travel_in_one_call_and_ids_bring_no_name(
    engine: Engine, far: Engine, server: SshServer, image: str
) -> None:
    engine.docker("tag", image, "other:1")
    id = described(engine, image)[0]
    result = over_ssh(engine, server, "push", "-q", server.url, id, "other:1")
    assert (result.stdout, result.returncode) == (f"{id}\nother:1\n", 0)
    assert far.api("GET", f"/images/{id}/json")[1]["RepoTags"] == ["other:1"]


def test_after_an_end_at_nine_tenths_only_the_rest_travels(
    engine: Engine, far: Engine, server: SshServer, image: str
) -> None:
    shipment = engine.api("GET", f"/boxship/images/{image}/shipment")[1]
    layer = max(shipment["Layers"], key=lambda each: each["Size"])
    blob = read_blob(engine, layer["Digest"])
    cut = layer["Size"] * 9 // 10
    write_a_part(far, layer, blob[:cut])

    def here() -> int:
        missing = far.api("POST", "/boxship/images/missing", shipment)[1]
        return next(each["Here"] for each in missing if each["Digest"] == layer["Digest"])

    until(lambda: here() == cut)
    far.kill()
    far.start()
    assert here() == cut
    result = over_ssh(engine, server, "push", server.url, image)
    assert result.returncode == 0, result.stderr
    assert ": Resuming\n" in result.stdout
    assert described(far, image) == described(engine, image)


def test_a_blob_that_is_not_what_its_digest_says_is_neither_kept_nor_used(
    engine: Engine, far: Engine, server: SshServer, image: str
) -> None:
    shipment = engine.api("GET", f"/boxship/images/{image}/shipment")[1]
    layer = max(shipment["Layers"], key=lambda each: each["Size"])
    status, answer = write_a_part(far, layer, bytes(layer["Size"]))
    assert (status, "unexpected commit digest" in answer["message"]) == (400, True)
    missing = far.api("POST", "/boxship/images/missing", shipment)[1]
    assert layer["Digest"] in [each["Digest"] for each in missing if each["Here"] == 0]
    status, answer = far.api("POST", "/boxship/images/receive", shipment)
    assert (status, answer["message"].endswith("has not arrived")) == (404, True)
    assert far.api("GET", f"/images/{image}/json")[0] == 404


@pytest.fixture
def large(engine: Engine, far: Engine) -> Iterator[str]:
    """An image of three layers of 12 MB, which travel side by side."""
    layers = [hostile.tar([hostile.entry(f"data{n}", os.urandom(SIZE * 6 // 10))]) for n in range(3)]
    assert "Loaded image" in hostile.load(engine, hostile.archive({}, layers, "large"))
    yield "large:latest"
    for each in (engine, far):
        each.docker("rmi", "-f", "large", check=False)


def test_layers_side_by_side_go_on_where_they_were_cut(
    engine: Engine, far: Engine, server: SshServer, large: str
) -> None:
    shipment = engine.api("GET", f"/boxship/images/{large}/shipment")[1]
    for layer in shipment["Layers"][:2]:
        write_a_part(far, layer, read_blob(engine, layer["Digest"])[: layer["Size"] // 2])
    far.kill()
    far.start()
    result = over_ssh(engine, server, "push", server.url, large)
    assert result.returncode == 0, result.stderr
    assert (result.stdout.count(": Resuming\n"), result.stdout.count(": Pushed\n")) == (2, 3)
    assert described(far, large) == described(engine, large)
    assert list((far.data_root / "content/ingest").iterdir()) == []


@pytest.fixture
def several(engine: Engine, far: Engine, tmp_path: Path) -> Iterator[str]:
    """An image of three platforms, each with an attestation."""
    (tmp_path / "several.tar").write_bytes(Multi(name="docker.io/library/several:1").tar())
    engine.boxship("load", "-q", "--platform", "all", "-i", str(tmp_path / "several.tar"))
    yield "several:1"
    for each in (engine, far):
        each.docker("rmi", "-f", "several:1", check=False)


def manifests(engine: Engine) -> list[tuple[str, str, bool]]:
    """Return id and kind of all manifests that an engine knows of the image ``several``, and whether they are there."""
    rows = engine.api("GET", "/images/json?manifests=1")[1]
    row = next(row for row in rows if row["RepoTags"] == ["several:1"])
    return [(one["ID"], one["Kind"], one["Available"]) for one in row["Manifests"]]


@pytest.mark.row("IMG-25")
def test_an_index_travels_with_its_platforms_and_what_is_attested(
    engine: Engine, far: Engine, server: SshServer, several: str, tmp_path: Path
) -> None:
    assert [(kind, here) for _, kind, here in manifests(engine)] == [("image", True), ("attestation", True)] * 3
    result = over_ssh(engine, server, "push", server.url, several)
    assert result.returncode == 0, result.stderr
    assert manifests(far) == manifests(engine)
    assert described(far, several) == described(engine, several)
    assert far.boxship("system", "fsck").stdout == "nothing is wrong\n"
    saved = []
    for each in (engine, far):
        each.docker("save", "-o", str(tmp_path / "saved.tar"), several)
        saved.append((tmp_path / "saved.tar").read_bytes())
    assert saved[0] == saved[1]
    before = manifests(engine)
    engine.docker("rmi", several)
    back = over_ssh(engine, server, "pull", server.url, several)
    assert back.returncode == 0, back.stderr
    assert manifests(engine) == before


def test_of_an_index_travels_what_is_there(engine: Engine, far: Engine, server: SshServer, several: str) -> None:
    engine.boxship("rmi", "--platform", "linux/s390x", several)
    result = over_ssh(engine, server, "push", server.url, several)
    assert result.returncode == 0, result.stderr
    assert [here for _, kind, here in manifests(far) if kind == "image"] == [True, True, False]
    assert [here for _, kind, here in manifests(far) if kind == "attestation"] == [True, True, False]


def test_what_an_index_does_not_name_is_refused(engine: Engine, far: Engine, several: str) -> None:
    whole = engine.api("GET", f"/boxship/images/{several}/shipment")[1]
    image = next(one for one in whole["Members"] if one["Config"])
    said = next(one for one in whole["Members"] if not one["Config"])
    other = next(one for one in whole["Members"] if one["Config"] not in ("", image["Config"]))
    for change, words in (
        ({"Members": [{**image, "Manifest": image["Manifest"] + " "}]}, "is no manifest of its index"),
        ({"Members": [{**image, "Config": other["Config"]}]}, "is not the manifest of"),
        ({"Members": [{**image, "Layers": []}]}, "layers length mismatch"),
        ({"Members": [said]}, "an attestation about no image of it"),
        ({"Members": [image, {**said, "Blobs": []}]}, "comes without its blobs"),
        ({"Members": []}, "its image is not in its index"),
        ({"Members": whole["Members"] * 50}, "too much of it comes"),
        ({"Index": image["Manifest"], "IndexType": image["ManifestType"]}, "its index is none"),
        ({"Index": "{"}, "invalid"),
    ):
        for call in ("missing", "receive"):
            status, answer = far.api("POST", f"/boxship/images/{call}", whole | change)
            assert status == 400, (words, answer)
            assert words in answer["message"], (words, answer)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Layers": []}, "layers length mismatch"),
        ({"Names": ["Bad Name"]}, "invalid reference format"),
        ({"Config": "{"}, "invalid"),
        ({"Layers": [{"Digest": "sha256:../../x", "Size": 1}] * 2}, "invalid"),
        ({"Manifest": "[]"}, "invalid"),
    ],
)
def test_a_shipment_that_cannot_be_is_refused(
    engine: Engine, far: Engine, image: str, change: dict[str, Any], words: str
) -> None:
    shipment = engine.api("GET", f"/boxship/images/{image}/shipment")[1] | change
    for call in ("missing", "receive"):
        status, answer = far.api("POST", f"/boxship/images/{call}", shipment)
        assert (status, words in answer["message"]) == (400, True), answer


def test_what_is_not_there_and_engines_that_are_not_ours_are_told(engine: Engine, server: SshServer) -> None:
    result = over_ssh(engine, server, "push", server.url, "no/such:1")
    assert (result.returncode, result.stderr) == (1, "Error response from daemon: No such image: no/such:1\n")
    result = over_ssh(engine, server, "pull", server.url)
    assert result.returncode == 1
    assert "an image is missing" in result.stderr


def read_blob(engine: Engine, digest: str) -> bytes:
    with connected(engine) as connection:
        connection.request("GET", f"/boxship/blobs/{digest}")
        return connection.getresponse().read()


def write_a_part(engine: Engine, layer: dict[str, Any], data: bytes) -> tuple[int, Any]:
    """Send the start of a blob; the answer when it was all, else the connection is cut once it is on the disk."""
    files = (engine.data_root / "content" / "ingest", f"partial-{layer['Digest'].replace(':', '-')}")
    with connected(engine) as connection:
        connection.putrequest("PUT", f"/boxship/blobs/{layer['Digest']}?size={layer['Size']}")
        connection.putheader("Content-Length", str(layer["Size"]))
        connection.endheaders(data)
        if len(data) < layer["Size"]:
            until(lambda: sum(path.stat().st_size for path in files[0].glob(files[1])) == len(data))
            return 0, None
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")


@contextlib.contextmanager
def connected(engine: Engine) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(engine.socket))
    try:
        yield connection
    finally:
        connection.close()
