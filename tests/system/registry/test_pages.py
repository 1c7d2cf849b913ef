"""The registry's web pages, seen with a real browser and without one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape

import pytest

from harness.browser import Browser
from harness.registry_server import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, RegistryServer

pytestmark = pytest.mark.system

HOSTILE = "COPY <script>document.title='owned'</script><img src=x onerror=alert(1)> /srv"


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    """Some repositories, one with an image of three layers and a hostile history."""
    server = RegistryServer()
    try:
        client = server.start().client()
        layers = [
            client.push_blob("library/shop", bytes([number]) * size) for number, size in enumerate((90_000, 7, 450_000))
        ]
        history = [{"created_by": "ADD rootfs.tar /"}, {"created_by": "ENV A=b", "empty_layer": True}]
        history += [{"created_by": HOSTILE}, {"created_by": "RUN make"}]
        settings = {"os": "linux", "architecture": "arm64", "config": {"Cmd": ["shop"]}, "history": history}
        config = client.push_blob("library/shop", json.dumps(settings).encode())
        nothing = client.push_blob("library/shop", b"{}")
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {**config, "mediaType": OCI_CONFIG},
            "layers": layers,
        }
        image = client.push_manifest("library/shop", "v1", manifest)
        said = client.push_blob("library/shop", b'{"predicateType": "https://spdx.dev/Document"}')
        statement = {**said, "mediaType": "application/vnd.in-toto+json"}
        statement["annotations"] = {"in-toto.io/predicate-type": "https://spdx.dev/Document"}
        statements = {**manifest, "layers": [statement], "config": {**nothing, "mediaType": OCI_CONFIG}}
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {**image, "platform": {"os": "linux", "architecture": "arm64"}},
                {
                    **client.push_manifest("library/shop", "", statements),
                    "platform": {"os": "unknown", "architecture": "unknown"},
                    "annotations": {
                        "vnd.docker.reference.digest": image["digest"],
                        "vnd.docker.reference.type": "attestation-manifest",
                    },
                },
            ],
        }
        client.push_manifest("library/shop", "all", index)
        for name in ("team/api", "team/worker"):
            client.push_image(name, "latest")
        yield server
    finally:
        server.close()


def test_a_person_finds_an_image_and_sees_its_layers(registry: RegistryServer) -> None:
    try:
        browser = Browser()
    except RuntimeError as exc:
        pytest.skip(str(exc))
    try:
        browser.open(f"{registry.url}/")
        assert {"library/shop", "team/api", "team/worker"} <= set(browser.text("table").split())
        browser.type("input[name=q]", "shop\n")
        assert "team/api" not in browser.text("main")
        browser.click("table a")
        assert browser.text("h1") == "library/shop"
        assert f"docker pull localhost:{registry.port}/library/shop:all" in browser.text("pre")
        browser.click("table tr:last-child a")
        assert browser.text("h1") == "library/shop:v1"
        assert "linux/arm64" in browser.text("dl")
        widths = browser.run("return [...document.querySelectorAll('svg.layers rect')].map(r => r.getBBox().width)")
        assert len(widths) == 3
        assert widths[0] > widths[2] > widths[1] > 0
        assert HOSTILE in browser.text("table")
        assert browser.title == "library/shop:v1 - Registry"
        styled = browser.run("return getComputedStyle(document.querySelector('button')).backgroundColor")
        assert styled not in ("", "rgba(0, 0, 0, 0)", "rgb(239, 239, 239)")
        assert browser.screenshot().startswith(b"\x89PNG")
    finally:
        browser.close()


def test_pages_forbid_scripts_and_escape_what_was_pushed(registry: RegistryServer) -> None:
    answer = registry.client().call("GET", "/r/library/shop/-/v1")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    text = answer.body.decode()
    assert "<script" not in text
    assert escape(HOSTILE) in text


def test_an_index_leads_to_its_platforms(registry: RegistryServer) -> None:
    text = registry.client().call("GET", "/r/library/shop/-/all").body.decode()
    assert ">linux/arm64</a>" in text
    assert ">attestations of linux/arm64</a>" in text
    assert ">1 platform, attested<" in registry.client().call("GET", "/r/library/shop").body.decode()
    (link,) = re.findall(r'href="([^"]*)">attestations', text)
    assert "https://spdx.dev/Document" in registry.client().call("GET", link).body.decode()


@pytest.mark.parametrize("path", ["/r/absent", "/r/library/shop/-/v9", "/r/Not/A/Name", "/r/a/-/b/-/c", "/nothing"])
def test_what_is_not_there_is_a_page_too(registry: RegistryServer, path: str) -> None:
    answer = registry.client().call("GET", path)
    assert answer.status in (400, 404)
    assert "<h1>" in answer.body.decode()


def test_a_search_for_markup_finds_nothing_and_shows_it_as_text(registry: RegistryServer) -> None:
    text = registry.client().call("GET", "/?q=%22%3E%3Cscript%3E").body.decode()
    assert "There is nothing here." in text
    assert "<script" not in text


def test_pages_can_be_switched_off() -> None:
    server = RegistryServer({"pages": {"enabled": False}})
    try:
        assert server.start().client().call("GET", "/").status == 404
    finally:
        server.close()
