from __future__ import annotations

import math

import pytest

from boxship.registry.server.config import InvalidConfiguration, load, seconds

FILE = """
version: 0.1
storage:
  cache:
  filesystem: {rootdirectory: /data}
http:
  addr: :5000
"""


def test_variables_override_the_file() -> None:
    config = load(FILE, {"REGISTRY_HTTP_ADDR": ":80", "REGISTRY_STORAGE_DELETE_ENABLED": "false", "PATH": "/bin"})
    assert (config.http.addr, config.storage.delete.enabled) == (":80", False)
    assert config.storage.filesystem.rootdirectory == "/data"


def test_variables_alone_are_a_configuration() -> None:
    config = load(
        "",
        {
            "REGISTRY_AUTH": "{htpasswd: {path: /users, realm: x}}",
            "REGISTRY_AUTH_HTPASSWD_REALM": "Here",
            "REGISTRY_PROXY_PASSWORD": "0123",
            "REGISTRY_PORT": "tcp://10.0.0.1:5000",  # of container links; not a key
        },
    )
    assert config.auth.htpasswd is not None
    assert (config.auth.htpasswd.realm, config.auth.htpasswd.path) == ("Here", "/users")
    assert config.proxy.password == "0123"


def test_a_variable_may_choose_a_kind() -> None:
    environment = {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_PATH": "/users",
        "REGISTRY_STORAGE": "filesystem",
    }
    config = load(FILE, environment)
    assert config.auth.htpasswd is not None
    assert config.auth.htpasswd.path == "/users"
    assert config.storage.filesystem.rootdirectory == "/data"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http: {adr: x}", "unknown field `adr`"),
        ("a: [", "configuration"),
        ("[1]", "not a mapping"),
        ("access: [{repositories: [x], users: [y], actions: [fly]}]", "'fly'"),
        ("storage: {maintenance: {garbagecollection: {untagged: some}}}", "'some'"),
        ("auth: {issuer: {}}", "issuer needs the users"),
        ("auth: {htpasswd: {path: x}, token: {realm: a, service: b, issuer: c}}", "excludes"),
        ("proxy: {ttl: forever}", "forever"),
        ("!!python/object/apply:os.system ['true']", "configuration"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        load(text, {})


def test_durations_are_go_s() -> None:
    assert (seconds("1h30m"), seconds("250ms"), seconds("")) == (5400.0, 0.25, math.inf)
