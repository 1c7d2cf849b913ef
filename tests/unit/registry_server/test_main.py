from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.base.errors import InvalidInput
from boxship.registry.server.config import load
from boxship.registry.server.main import main, split_address
from boxship.registry.server.service import open_storage


@pytest.fixture
def root_log() -> Iterator[None]:
    """Undo what the program does to logging."""
    handlers = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(logging.WARNING)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("REGISTRY_HTTP_ADDR", "nonsense", "http.addr: 'nonsense' is no address"),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "perhaps", "Expected `bool`, got `str`"),
        ("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_GRACE", "soon", 'invalid duration "soon"'),
        ("REGISTRY_AUTH_HTPASSWD_PATH", "/nowhere", "auth.htpasswd: /nowhere: No such file or directory"),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "/nowhere", "http.tls: /nowhere"),
        ("REGISTRY_HTTP_BANANA", "1", "unknown field `banana`"),
    ],
)
@pytest.mark.usefixtures("root_log")
def test_a_wrong_configuration_ends_with_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    text: str,
) -> None:
    monkeypatch.setenv("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", str(tmp_path))
    monkeypatch.setenv(name, value)
    assert main(["serve"]) == 1
    said = capsys.readouterr().err
    assert text in said
    assert len(said.splitlines()) == 1


@pytest.mark.usefixtures("root_log")
def test_flipped_bits_are_found_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", str(tmp_path))
    storage = open_storage(load("", os.environ))
    paths = {}
    for data in (b"good", b"rotten", b"lost"):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        (tmp_path / "new").write_bytes(data)
        storage.blobs.keep("a", digest, str(tmp_path / "new"), len(data))
        paths[data] = (digest, Path(storage.blobs.path(digest)))
    storage.close()
    assert main(["verify"]) == 0
    paths[b"rotten"][1].write_bytes(b"rottem")
    assert main(["verify"]) == 1
    assert capsys.readouterr().out == f"{paths[b'rotten'][0]}\n"
    paths[b"lost"][1].unlink()
    assert main(["repair"]) == 0
    assert capsys.readouterr().out.splitlines() == [paths[b"lost"][0], paths[b"rotten"][0]]
    assert main(["verify"]) == 0
    assert [path.exists() for _, path in paths.values()] == [True, False, False]


@pytest.mark.parametrize("words", [[], ["fly"], ["serve", "a", "b"], ["htpasswd"]])
def test_other_words_show_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 125
    assert capsys.readouterr().err.startswith("usage: registry serve")


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "serve", "/nowhere/config.yml"]) == 1
    assert main(["/nowhere/config.yml"]) == 1
    assert capsys.readouterr().err == "registry: /nowhere/config.yml: No such file or directory\n" * 2


@pytest.mark.parametrize(
    ("text", "address"), [(":5000", ("", 5000)), ("localhost:80", ("localhost", 80)), ("[::1]:0", ("::1", 0))]
)
def test_addresses_are_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


@pytest.mark.parametrize("text", ["5000", "host", "host:", "host:http", ":70000"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        split_address(text)
