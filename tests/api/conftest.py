"""Checks of method, path, status and JSON against an engine: BOXSHIP_API_HOST, DOCKER_HOST (unix:// or tcp://), or one made here.

They hold for Boxship and for dockerd alike, so that the checks themselves are checked: start either one with an empty data
root and run ``DOCKER_HOST=unix:///path pytest tests/api``.
"""

import http.client
import json
import os
import socket
from types import SimpleNamespace

import pytest

from harness.engine import Engine


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("engine", timeout=30)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@pytest.fixture(scope="module")
def host():
    found = os.environ.get("BOXSHIP_API_HOST") or os.environ.get("DOCKER_HOST")
    if found:
        yield found
        return
    if os.geteuid() != 0:
        pytest.skip("no engine: set DOCKER_HOST, or be root")
    engine = Engine()
    try:
        engine.start()
        yield engine.host
    finally:
        engine.close()


@pytest.fixture(scope="module")
def ask(host):
    """Send one request; return status, headers and the body, decoded if it is JSON."""
    scheme, _, address = host.partition("://")

    def asking(method, target, *, json_body=None, data=None, headers=None):
        connection = UnixConnection(address) if scheme == "unix" else http.client.HTTPConnection(address, timeout=30)
        sent = dict(headers or {})
        if json_body is not None:
            data = json.dumps(json_body)
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, target, body=data, headers=sent)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        try:
            body = json.loads(text)
        except ValueError:
            body = text
        return SimpleNamespace(status=answer.status, headers=dict(answer.getheaders()), body=body, text=text)

    return asking
