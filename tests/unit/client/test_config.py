"""Which engine is meant: flags, environment, contexts, config.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from boxship.client.config import Config, GlobalOptions, resolve_endpoint
from boxship.client.errors import HostError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    return Config(str(tmp_path))


def add_context(config: Config, name: str, host: str) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = Path(config.directory, "contexts", "meta", digest)
    meta.mkdir(parents=True)
    document = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}
    (meta / "meta.json").write_text(json.dumps(document))


def options(**values: object) -> GlobalOptions:
    found = GlobalOptions()
    for name, value in values.items():
        setattr(found, name, value)
    return found


@pytest.mark.row("CLI-03", "CLI-04", "CLI-05")
def test_the_flag_goes_before_the_environment_and_that_before_the_context(config, monkeypatch) -> None:
    add_context(config, "far", "tcp://far:1")
    Path(config.path).write_text('{"currentContext": "far"}')
    assert resolve_endpoint(options(), config).host == "tcp://far:1"
    monkeypatch.setenv("DOCKER_HOST", "tcp://env:2")
    assert resolve_endpoint(options(), config).host == "tcp://env:2"
    assert resolve_endpoint(options(hosts=["h:3"]), config).host == "tcp://h:3"
    found = resolve_endpoint(options(context="far"), config)
    assert (found.host, found.context) == ("tcp://far:1", "far")


@pytest.mark.row("CLI-04")
def test_tls_files_come_from_the_environment(config, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", "/certs")
    tls = resolve_endpoint(options(hosts=["h"]), config).tls
    assert tls is not None
    assert (tls.ca, tls.cert, tls.key, tls.verify) == ("/certs/ca.pem", "/certs/cert.pem", "/certs/key.pem", True)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"hosts": ["a", "b"]}, "unable to resolve docker endpoint: Specify only one -H"),
        ({"hosts": ["a"], "context": "b"}, "cannot specify both --host and --context"),
        ({"context": "nope"}, 'context "nope": context not found: open '),
        ({"hosts": ["foo://x"]}, "invalid bind address format: foo://x"),
    ],
)
def test_what_cannot_be_resolved_says_why(given, problem, config) -> None:
    with pytest.raises(HostError) as caught:
        resolve_endpoint(options(**given), config)
    assert problem in str(caught.value)


@pytest.mark.row("CLI-18")
def test_config_is_written_for_its_owner_only(config) -> None:
    config.document["currentContext"] = "x"
    config.save()
    assert Path(config.path).stat().st_mode & 0o777 == 0o600
    assert Config(config.directory).text("currentContext") == "x"


def test_a_broken_config_file_is_named(config) -> None:
    Path(config.path).write_text("{")
    with pytest.raises(HostError, match="error parsing config file"):
        _ = config.document
