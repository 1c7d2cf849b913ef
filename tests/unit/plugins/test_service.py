"""Plugins: activated once, asked patiently, and never believed."""

from __future__ import annotations

import asyncio
import http.server
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.plugins import PluginError, PluginNotFound, PluginRefused, Plugins, PluginUnreachable, client
from harness.plugins import Plugin

METHOD = "VolumeDriver.Get"


@pytest.fixture
def sample(place: Path) -> Iterator[Plugin]:
    plugin = Plugin(place, "sample")
    plugin.interface = "VolumeDriver Other"
    plugin.raw[METHOD] = b'{"Volume": {"Name": "v", "Status": null}, "Err": null}'
    with plugin:
        yield plugin


def ask(plugins: Plugins, method: str = METHOD, **more: Any) -> dict[str, Any]:
    return asyncio.run(plugins.ask("sample", method, {"Name": "v"}, dict[str, Any], **more))


def test_a_plugin_is_activated_once_and_nulls_are_what_was_not_said(plugins: Plugins, sample: Plugin) -> None:
    assert ask(plugins) == ask(plugins) == {"Volume": {"Name": "v"}}
    assert (sample.activations, sample.calls) == (1, [(METHOD, {"Name": "v"})] * 2)
    assert plugins.active("VolumeDriver") == plugins.active("Other") == ["sample"]
    assert plugins.active("NetworkDriver") == []


@pytest.mark.row("VOL-14")
def test_a_plugin_that_implements_something_else_is_refused(plugins: Plugins, sample: Plugin) -> None:
    words = 'requested driver: plugin="sample", requested implementation="NetworkDriver"'
    with pytest.raises(PluginError, match=words):
        ask(plugins, "NetworkDriver.Join")
    assert asyncio.run(plugins.names("NetworkDriver")) == []
    assert asyncio.run(plugins.names("VolumeDriver")) == ["sample"]


def test_errors_inside_an_answer_are_refusals(plugins: Plugins, sample: Plugin) -> None:
    del sample.raw[METHOD]
    sample.refused[METHOD] = "no such volume"
    with pytest.raises(PluginRefused, match=r"^no such volume$"):
        ask(plugins)
    with pytest.raises(PluginRefused, match=r"VolumeDriver.Nothing") as refused:
        ask(plugins, "VolumeDriver.Nothing")
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"no json", "is no JSON object"),
        (b"[]", "is no JSON object"),
        (b'{"a":' * 50_000, "is no JSON object"),
        (b" " * (5 * 1024 * 1024), "is longer than 4194304 bytes"),
    ],
)
def test_nonsense_is_no_answer(plugins: Plugins, sample: Plugin, answer: bytes, words: str) -> None:
    sample.raw[METHOD] = answer
    with pytest.raises(PluginUnreachable, match=words):
        ask(plugins)


def test_a_plugin_that_hangs_is_given_up(plugins: Plugins, sample: Plugin) -> None:
    sample.held[METHOD] = threading.Event()
    with pytest.raises(PluginUnreachable, match=f"/{METHOD}.*: context deadline exceeded"):
        ask(plugins, seconds=0.05)


def test_one_that_does_not_listen_yet_is_waited_for(plugins: Plugins, sample: Plugin, pauses: Any) -> None:
    sample.close(leave_socket=True)
    pauses.then[3] = sample.listen
    assert ask(plugins)["Volume"] == {"Name": "v"}
    assert pauses.seconds == [1, 2, 4]


def test_waiting_has_an_end(plugins: Plugins, sample: Plugin, pauses: Any) -> None:
    sample.close(leave_socket=True)
    with pytest.raises(PluginUnreachable, match=r"dial unix /.*/sample.sock: connect: connection refused"):
        ask(plugins)
    assert pauses.seconds == [1, 2, 4, 8]
    with pytest.raises(PluginUnreachable):
        ask(plugins, patient=False)
    assert pauses.seconds == [1, 2, 4, 8]


def test_a_plugin_that_is_gone_is_forgotten_and_activated_again_when_it_is_back(
    plugins: Plugins, sample: Plugin
) -> None:
    ask(plugins)
    sample.close()
    with pytest.raises(PluginNotFound, match=r'^plugin "sample" not found$'):
        ask(plugins, patient=False)
    assert plugins.active("VolumeDriver") == []
    sample.listen()
    ask(plugins)
    assert sample.activations == 2


def test_many_that_ask_at_once_activate_once(plugins: Plugins, sample: Plugin) -> None:
    async def scenario() -> None:
        asked = (plugins.ask("sample", METHOD, {}, dict[str, Any]) for _ in range(10))
        await asyncio.gather(*asked)

    asyncio.run(scenario())
    assert sample.activations == 1


def test_more_calls_than_a_plugins_queue_takes_are_all_answered(plugins: Plugins, sample: Plugin) -> None:
    async def scenario() -> None:
        asked = (plugins.ask("sample", METHOD, {"Name": "v"}, dict[str, Any], patient=False) for _ in range(60))
        await asyncio.gather(*asked)

    asyncio.run(scenario())
    assert sample.calls == [(METHOD, {"Name": "v"})] * 60


def test_one_that_hangs_when_it_is_activated_keeps_a_listing_waiting_once(
    plugins: Plugins, sample: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxship.plugins.service.GLANCE", 0.05)
    sample.held["Plugin.Activate"] = threading.Event()

    async def scenario() -> None:
        assert await plugins.names("VolumeDriver") == []
        assert await plugins.names("VolumeDriver") == []
        sample.held["Plugin.Activate"].set()
        await plugins.find("sample", "VolumeDriver")
        assert await plugins.names("VolumeDriver") == ["sample"]

    asyncio.run(scenario())
    assert sample.activations == 1


@pytest.mark.parametrize("answer", [b"{}", b'{"Implements": 7}', b'{"Implements": [null, 3, {}]}'])
def test_an_activation_that_names_nothing_implements_nothing(plugins: Plugins, sample: Plugin, answer: bytes) -> None:
    sample.raw["Plugin.Activate"] = answer
    with pytest.raises(PluginError, match="does not implement"):
        ask(plugins)


def test_a_plugin_is_asked_over_tls(plugins: Plugins, place: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl program to make a certificate with")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"),
            *("-keyout", str(place / "key.pem"), "-out", str(place / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers["Content-Type"])
            body = json.dumps({"Implements": ["VolumeDriver"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "cert.pem", place / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        document = {"Addr": f"https://localhost:{server.server_port}", "TLSConfig": {"CAFile": str(place / "cert.pem")}}
        (place / "sample.json").write_text(json.dumps(document))
        ask(plugins)
        assert seen == [client.CONTENT_TYPE] * 2
        (place / "other.spec").write_text(document["Addr"])
        with pytest.raises(PluginUnreachable, match="certificate"):
            asyncio.run(plugins.ask("other", METHOD, {}, dict[str, Any], patient=False))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
