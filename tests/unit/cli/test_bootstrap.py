"""Bootstrapping base images: what is asked of the tools, and what their failures mean."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from boxship.cli.bootstrap import apt, busybox
from boxship.cli.bootstrap.apt import ARCHIVES, sources
from boxship.cli.bootstrap.debian import BootstrapError, explain, split_tag
from boxship.cli.bootstrap.debian import bootstrap_debian as bootstrap

pytestmark = pytest.mark.row("IMG-17")

DEBIAN, UBUNTU = ARCHIVES["debian"], ARCHIVES["ubuntu"]
HOST = [
    ("http://mirror.local/debian/", "bookworm"),
    ("http://mirror.local/debian/", "bookworm-updates"),
    ("http://mirror.local/debian-security/", "bookworm-security"),
]


def test_the_hosts_mirrors_are_used_for_its_distribution() -> None:
    assert sources(DEBIAN, "trixie", "", HOST) == [
        "deb http://mirror.local/debian trixie main",
        "deb http://mirror.local/debian trixie-updates main",
        "deb http://mirror.local/debian-security trixie-security main",
    ]


def test_another_distribution_comes_from_its_public_archive() -> None:
    assert sources(UBUNTU, "noble", "", HOST)[0] == "deb http://archive.ubuntu.com/ubuntu noble main universe"


def test_a_mirror_that_was_given_is_the_only_one() -> None:
    assert sources(DEBIAN, "bookworm", "http://m/debian", HOST) == ["deb http://m/debian bookworm main"]


def test_a_rolling_suite_has_no_updates() -> None:
    assert sources(DEBIAN, "sid", "", []) == ["deb http://deb.debian.org/debian sid main"]


@pytest.mark.parametrize(
    ("archive", "tag", "suite", "slim"),
    [
        (DEBIAN, "bookworm", "bookworm", False),
        (DEBIAN, "bookworm-slim", "bookworm", True),
        (DEBIAN, "12", "bookworm", False),
        (DEBIAN, "latest", "stable", False),
        (UBUNTU, "22.04", "jammy", False),
    ],
)
def test_a_tag_names_a_suite(archive, tag: str, suite: str, slim: bool) -> None:
    assert split_tag(archive, tag) == (suite, slim)


@pytest.mark.parametrize("tag", ["../x", "-x", "a b", "A"])
def test_a_tag_that_no_suite_can_have_is_refused(tag: str) -> None:
    with pytest.raises(BootstrapError, match="is no suite of debian"):
        split_tag(DEBIAN, tag)


def test_bad_options_are_refused_before_any_tool_runs() -> None:
    with pytest.raises(BootstrapError, match="unknown variant 'x'"):
        next(bootstrap("debian", "sid", variant="x", log=print))
    with pytest.raises(BootstrapError, match="is no package name"):
        next(bootstrap("debian", "sid", include=["a;reboot"], log=print))


def tools(monkeypatch: pytest.MonkeyPatch, directory: Path, **scripts: str) -> None:
    """Put only these shell scripts on the path."""
    for name, script in scripts.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    keyring = directory / "keyring.gpg"
    keyring.write_bytes(b"")
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(DEBIAN, "keyring", str(keyring))


def test_without_a_tool_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools(monkeypatch, tmp_path)
    with pytest.raises(BootstrapError, match="apt-get install mmdebstrap"):
        next(bootstrap("debian", "bookworm", log=print))


def test_without_a_keyring_nothing_is_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools(monkeypatch, tmp_path, mmdebstrap="exit 0")
    os.unlink(DEBIAN.keyring)
    with pytest.raises(BootstrapError, match="apt-get install debian-archive-keyring"):
        next(bootstrap("debian", "bookworm", log=print))


def test_the_output_of_mmdebstrap_is_the_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools(monkeypatch, tmp_path, mmdebstrap='echo "I: working" >&2; for a in "$@"; do echo "$a"; done')
    said: list[str] = []
    output = b"".join(bootstrap("debian", "bookworm-slim", include=["nano"], log=said.append)).decode()
    assert said == ["I: working"]
    assert "--variant=minbase\n" in output
    assert "--include=nano\n" in output
    assert "--dpkgopt=path-exclude=/usr/share/doc/*\n" in output
    assert "\nbookworm\n-\ndeb http://deb.debian.org/debian bookworm main\n" in output


def test_the_hosts_apt_options_are_handed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = "echo 'Acquire::http::Proxy \"http://p:3142\";'; echo 'Acquire::AllowInsecureRepositories \"1\";'"
    tools(monkeypatch, tmp_path, **{"apt-config": config})
    options = apt.host_options()
    assert 'Acquire::http::Proxy "http://p:3142";' in options
    assert "AllowInsecure" not in options


def test_a_tool_that_fails_after_its_output_breaks_the_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools(monkeypatch, tmp_path, mmdebstrap='echo data; echo "E: it broke" >&2; exit 1')
    stream = bootstrap("debian", "bookworm", log=lambda _: None)
    assert next(stream) == b"data\n"
    with pytest.raises(BootstrapError, match="mmdebstrap failed: E: it broke"):
        next(stream)


def test_giving_up_ends_the_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools(monkeypatch, tmp_path, mmdebstrap="echo $$; exec /bin/sleep 1000")
    stream = bootstrap("debian", "bookworm", log=lambda _: None)
    pid = int(next(stream))
    stream.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("  Temporary failure resolving 'deb.debian.org'", "can't be reached"),
        ("E: The repository 'http://x nosuch Release' does not have a Release file.", "'nosuch' is no suite"),
        ("E: Unable to locate package nope", "has no package 'nope'"),
        ("The following signatures couldn't be verified: NO_PUBKEY 0E98", "signature can't be verified"),
        ("tar: write error: No space left on device", "set TMPDIR"),
        ("E: unable to unshare: Operation not permitted", "run this command as root"),
        ("E: something else", "mmdebstrap failed: E: something else"),
    ],
)
def test_a_failure_is_explained(line: str, reason: str) -> None:
    assert reason in explain(["I: start", line, "I: removing"], DEBIAN, "nosuch", "mmdebstrap")


# busybox


def test_the_busybox_tree_has_a_name_for_each_applet() -> None:
    data = busybox.build(b"program", ["bin/sh", "usr/bin/env", "linuxrc", "bin/busybox"], 5)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {member.name: member for member in tar}
    assert found["bin/sh"].linkname == "bin/busybox"
    assert found["usr/bin/env"].islnk()
    assert "linuxrc" not in found
    assert found["tmp"].mode == 0o1777
    assert found["etc/shadow"].mode == 0o600
    assert {member.mtime for member in found.values()} == {5}
    assert data == busybox.build(b"program", ["usr/bin/env", "bin/sh", "linuxrc"], 5)


def test_only_static_programs_are_static(tmp_path: Path) -> None:
    from boxship.images.elf import printer

    program = tmp_path / "static"
    program.write_bytes(printer(b"x", "amd64"))
    assert busybox.is_static(str(program))
    assert not busybox.is_static("/bin/true")
    assert not busybox.is_static(__file__)
    assert not busybox.is_static(str(tmp_path / "none"))


def test_without_busybox_and_apt_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools(monkeypatch, tmp_path)
    monkeypatch.setattr(busybox, "is_static", lambda path: False)
    with pytest.raises(BootstrapError, match="no static busybox on this host"):
        next(busybox.bootstrap_busybox(print))
