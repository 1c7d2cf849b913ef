"""Where plugins are looked for, and what their files may say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from boxship.plugins import PluginError, discovery
from boxship.plugins.discovery import TLS, Address


def bind(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


@pytest.mark.row("VOL-14")
def test_sockets_come_before_files_and_lie_in_a_directory_of_their_own_too(place: Path) -> None:
    bind(place / "one.sock")
    bind(place / "two/two.sock")
    (place / "one.spec").write_text("tcp://192.0.2.1:9")
    assert discovery.find("one", [str(place)]) == Address(socket=str(place / "one.sock"))
    assert discovery.find("two", [str(place)]) == Address(socket=str(place / "two/two.sock"))
    assert discovery.names([str(place)]) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("p.spec", " tcp://192.0.2.1:9000\n", Address(host="192.0.2.1:9000")),
        ("p.spec", "unix:///run/p.sock", Address(socket="/run/p.sock")),
        ("p.spec", "http://192.0.2.1:9/ignored", Address(host="192.0.2.1:9")),
        ("p.json", '{"Name": "other", "Addr": "http://192.0.2.1:9"}', Address(host="192.0.2.1:9")),
        (
            "p.json",
            '{"Addr": "https://files:9", "TLSConfig": {"CAFile": "/ca", "CertFile": "/c", "KeyFile": "/k"}}',
            Address(host="files:9", tls=TLS(authority="/ca", certificate="/c", key="/k")),
        ),
        ("p.json", '{"Addr": "tcp://files:9", "TLSConfig": {}}', Address(host="files:9", tls=TLS(insecure=True))),
        ("p/p.spec", "https://files", Address(host="files", tls=TLS())),
    ],
)
def test_files_name_addresses(tmp_path: Path, name: str, text: str, expected: Address) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert discovery.find("p", [str(tmp_path)]) == expected
    assert discovery.names([str(tmp_path)]) == ["p"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.spec", "192.0.2.1:9", "invalid address|Unknown protocol"),
        ("p.spec", "", "Unknown protocol"),
        ("p.spec", "ftp://x", "invalid address of a plugin"),
        ("p.spec", "unix://relative", "invalid address of a plugin"),
        ("p.spec", "http://[", "invalid address of a plugin"),
        ("p.json", "{", "p.json"),
        ("p.json", "[" * 100_000, "p.json"),
        ("p.json", '{"Addr": 7}', "p.json"),
    ],
)
def test_files_that_make_no_sense_are_errors(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PluginError, match=words):
        discovery.find("p", [str(tmp_path)])


@pytest.mark.parametrize("name", ["", ".", "..", "../p", "a/b", "a\0b", "nosuch", "x" * 5000])
def test_names_that_are_none_are_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "p.spec").write_text("tcp://192.0.2.1:9")
    assert discovery.find(name, [str(tmp_path / "deep")]) is None


def test_what_is_no_socket_and_no_file_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.sock").write_text("")
    os.mkfifo(tmp_path / "b.spec")
    (tmp_path / "c.spec").mkdir()
    assert [discovery.find(name, [str(tmp_path)]) for name in "abc"] == [None, None, None]
    assert discovery.names([str(tmp_path / "nowhere")]) == []
