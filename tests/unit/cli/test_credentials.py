"""Where credentials are kept, and what is sent of them."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode
from types import SimpleNamespace

import pytest

from boxship.cli import credentials
from boxship.cli.command import ExitError
from boxship.client.config import Config
from boxship.registry.client.credentials import from_header


def config(tmp_path, document) -> Config:
    (tmp_path / "config.json").write_text(json.dumps(document))
    return Config(str(tmp_path))


@pytest.mark.parametrize(
    ("server", "key"),
    [
        ("", credentials.HUB),
        ("docker.io", credentials.HUB),
        ("https://index.docker.io/v1/", credentials.HUB),
        ("https://quay.test/v2/", "quay.test"),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_a_server_is_known_by_its_host(server, key):
    assert credentials.server_key(server) == key


@pytest.mark.row("REG-18")
def test_what_is_stored_is_found_sent_and_erased(tmp_path):
    held = config(tmp_path, {})
    place = credentials.store(held, {"serveraddress": "quay.test", "username": "joe", "password": "a:b"})
    assert place == str(tmp_path / "config.json")
    fresh = Config(str(tmp_path))
    session = SimpleNamespace(config=fresh)
    sent = from_header(credentials.registry_auth(session, "quay.test"))
    assert (sent.username, sent.password) == ("joe", "a:b")
    everything = json.loads(urlsafe_b64decode(credentials.registry_config(session)))
    assert everything == {"quay.test": {"username": "joe", "password": "a:b", "serveraddress": "quay.test"}}
    assert credentials.erase(fresh, "https://quay.test")
    assert not credentials.erase(fresh, "quay.test")
    assert credentials.load(Config(str(tmp_path)), "quay.test") == {}


def test_an_identity_token_takes_the_password_s_place(tmp_path):
    held = config(tmp_path, {})
    credentials.store(held, {"serveraddress": "", "username": "joe", "password": "x", "identitytoken": "t"})
    entry = json.loads((tmp_path / "config.json").read_text())["auths"][credentials.HUB]
    assert entry == {"auth": b64encode(b"joe:").decode(), "identitytoken": "t"}
    assert credentials.load(held, "docker.io")["identitytoken"] == "t"


def test_a_helper_that_is_not_installed_is_an_error(tmp_path):
    held = config(tmp_path, {"credHelpers": {"quay.test": "no-such-helper"}})
    with pytest.raises(ExitError, match="executable file not found"):
        credentials.load(held, "quay.test")
    assert credentials.load(held, "other.test") == {}


def test_credentials_that_are_no_base64_are_an_error_without_their_text(tmp_path):
    held = config(tmp_path, {"auths": {"quay.test": {"auth": "!secret!"}}})
    with pytest.raises(ExitError) as caught:
        credentials.load(held, "quay.test")
    assert "secret" not in str(caught.value)
