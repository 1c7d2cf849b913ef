"""What this host's apt knows about reaching package archives: mirrors, proxies and other options of the download.

A bootstrap must work wherever ``apt-get`` works, so it asks apt itself (``apt-get indextargets``, ``apt-config dump``)
instead of reading its files.
"""

from __future__ import annotations

import os
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# How packages are fetched. Deliberately not: anything that decides what is trusted.
PASSED_OPTIONS = (
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::ftp::",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::ForceIPv",
    "Acquire::Retries",
    "Acquire::Queue-Mode",
)


class Archive:
    """One distribution: where its packages are, which suites have updates, what signs it."""

    __slots__ = ("codenames", "components", "keyring", "keyring_package", "mirror", "name", "rolling", "security")

    def __init__(
        self,
        name: str,
        *,
        mirror: str,
        security: str,
        components: str,
        keyring: str,
        keyring_package: str,
        codenames: dict[str, str],
        rolling: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.mirror = mirror
        self.security = security  # URL of the security archive
        self.components = components
        self.keyring = keyring
        self.keyring_package = keyring_package
        self.codenames = codenames  # other names that people tag images with
        self.rolling = frozenset(rolling)  # suites without updates and security


ARCHIVES = {
    "debian": Archive(
        "debian",
        mirror="http://deb.debian.org/debian",
        security="http://deb.debian.org/debian-security",
        components="main",
        keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
        keyring_package="debian-archive-keyring",
        codenames={"latest": "stable", "11": "bullseye", "12": "bookworm", "13": "trixie"},
        rolling=("sid", "unstable", "experimental"),
    ),
    "ubuntu": Archive(
        "ubuntu",
        mirror="http://archive.ubuntu.com/ubuntu",
        security="http://security.ubuntu.com/ubuntu",
        components="main universe",
        keyring="/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        keyring_package="ubuntu-keyring",
        codenames={"latest": "noble", "20.04": "focal", "22.04": "jammy", "24.04": "noble"},
    ),
}


def sources(archive: Archive, suite: str, mirror: str, known: Sequence[tuple[str, str]]) -> list[str]:
    """Return the ``deb`` lines for a suite, the main one first.

    ``mirror`` is what the user gave ("": not given); then it alone is used. ``known`` are this host's (URL, suite): its own
    lines if it has the suite, else its mirrors of the same distribution, else the public ones.
    """
    if mirror:
        return [f"deb {mirror} {suite} {archive.components}"]
    base, security = archive.mirror, archive.security
    ends = (f"/{archive.name}", f"/{archive.name}-security")
    ours = [(url.rstrip("/"), known_suite) for url, known_suite in known if url.rstrip("/").endswith(ends)]
    base = next((url for url, _ in ours if url.endswith(ends[0])), base)
    security = next(
        (url for url, known_suite in ours if url.endswith(ends[1]) or known_suite.endswith("-security")), security
    )
    lines = [f"deb {base} {suite} {archive.components}"]
    if suite not in archive.rolling:
        lines.append(f"deb {base} {suite}-updates {archive.components}")
        lines.append(f"deb {security} {suite}-security {archive.components}")
    return lines


def host_sources() -> list[tuple[str, str]]:
    """Return (URL, suite) of every binary archive that this host's apt uses, in its order; none without apt."""
    output = _output("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")
    found = []
    for line in output.splitlines():
        url, _, suite = line.partition(" ")
        if url.startswith(("http://", "https://", "ftp://", "file:", "copy:", "mirror+")) and (url, suite) not in found:
            found.append((url, suite))
    return found


def host_options() -> str:
    """Return this host's apt options for downloads, as lines of an apt.conf."""
    lines = [line for line in _output("apt-config", "dump").splitlines() if line.startswith(PASSED_OPTIONS)]
    lines = [line for line in lines if not line.endswith(' "";')]
    for path, option in (("/etc/apt/auth.conf", "netrc"), ("/etc/apt/auth.conf.d", "netrcparts")):
        if os.path.exists(path):
            lines.append(f'Dir::Etc::{option} "{path}";')
    return "".join(f"{line}\n" for line in lines)


def host_proxy() -> str:
    """Return the proxy that apt uses for http, "" for none; for programs that only know ``http_proxy``."""
    output = _output("apt-config", "shell", "PROXY", "Acquire::http::Proxy").strip()
    return output.partition("=")[2].strip("'\"")


def _output(*command: str) -> str:
    """Return a command's output, "" when it is not installed or fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
