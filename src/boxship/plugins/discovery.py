"""Where plugins are: sockets, and files that name an address.

A plugin NAME is, in this order, a socket ``NAME.sock`` or ``NAME/NAME.sock`` in one of the directories, or a file
``NAME.spec`` (an address) or ``NAME.json`` (an address and TLS files), as such or in a directory ``NAME``. Everything here
blocks and reads little.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from boxship.plugins.errors import PluginError

_SPECIFICATION_BYTES = 64 * 1024
_SPECIFICATIONS = (".spec", ".json")


class TLS(msgspec.Struct, frozen=True, kw_only=True):
    """``TLSConfig`` of a JSON file; without ``CAFile`` the plugin's certificate is not checked, as in Docker."""

    insecure: bool = msgspec.field(default=False, name="InsecureSkipVerify")
    authority: str = msgspec.field(default="", name="CAFile")
    certificate: str = msgspec.field(default="", name="CertFile")
    key: str = msgspec.field(default="", name="KeyFile")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a plugin: ``socket`` is the path of a Unix socket, empty for ``host`` (with its port)."""

    socket: str = ""
    host: str = ""
    tls: TLS | None = None


class _Specification(msgspec.Struct, kw_only=True):
    address: str = msgspec.field(default="", name="Addr")
    tls: TLS | None = msgspec.field(default=None, name="TLSConfig")


def find(name: str, directories: Sequence[str]) -> Address | None:
    """Return the address of a plugin, None when no directory knows it; raises PluginError for a file that makes no sense."""
    if not _is_plain(name):
        return None
    for path in _places(name, directories, (".sock",)):
        if _is_socket(path):
            return Address(socket=path)
    for path in _places(name, directories, _SPECIFICATIONS):
        text = _read(path)
        if text is not None:
            return _from_json(path, text) if path.endswith(".json") else parse(text.decode(errors="replace").strip())
    return None


def names(directories: Sequence[str]) -> list[str]:
    """Return the names of all plugins that there seem to be, sorted."""
    found: set[str] = set()
    for directory in directories:
        for entry in _entries(directory):
            stem, extension = os.path.splitext(entry)
            if extension in (".sock", *_SPECIFICATIONS):
                found.add(stem)
            elif any(os.path.exists(path) for path in _within(entry, directory)):
                found.add(entry)
    return sorted(name for name in found if _is_plain(name))


def parse(text: str, tls: TLS | None = None) -> Address:
    """Return the address that a specification names; raises PluginError."""
    try:
        url = urlsplit(text)
        host = url.netloc.rpartition("@")[2]
        scheme, path = url.scheme, url.path
    except ValueError as exc:
        raise PluginError(f"invalid address of a plugin: {text[:200]!r}") from exc
    if not scheme:
        raise PluginError("Unknown protocol")
    if scheme == "unix" and path.startswith("/"):
        return Address(socket=path)
    if scheme in ("tcp", "http", "https") and host:
        return Address(host=host, tls=tls or (TLS() if scheme == "https" else None))
    raise PluginError(f"invalid address of a plugin: {text[:200]!r}")


def _from_json(path: str, text: bytes) -> Address:
    try:
        found = msgspec.json.decode(text, type=_Specification)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise PluginError(f"{path}: {exc}") from exc
    tls = found.tls
    if tls is not None and not tls.authority:
        tls = msgspec.structs.replace(tls, insecure=True)
    return parse(found.address.strip(), tls)


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not any(letter in "/\0" for letter in name)


def _places(name: str, directories: Sequence[str], extensions: Sequence[str]) -> Iterator[str]:
    for directory in directories:
        for extension in extensions:
            yield f"{directory}/{name}{extension}"
            yield f"{directory}/{name}/{name}{extension}"


def _within(name: str, directory: str) -> list[str]:
    return [f"{directory}/{name}/{name}{extension}" for extension in (".sock", *_SPECIFICATIONS)]


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _read(path: str) -> bytes | None:
    """Return the beginning of a regular file, None where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        return os.read(fd, _SPECIFICATION_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)
