"""Engines behind ``ssh://[user@]host[:port][/path]``: the system's own ``ssh`` runs ``system dial-stdio`` over there.

Keys, agents, jump hosts and known hosts are ssh's business, with the user's configuration. The process gets a session of
its own: Ctrl-C of a terminal is for the container, so ssh must not be hit by it (and thus cannot ask for a password).
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from _socket import socket, socketpair
from shlex import join, split
from urllib.parse import unquote, urlsplit

from boxship.client.errors import HostError
from boxship.linux.prctl import set_parent_death_signal

SIGKILL = 9
COMMAND_VARIABLE = "BOXSHIP_SSH_COMMAND"  # what runs over there instead of "boxship"
CONNECT_TIMEOUT = 30  # seconds
LAST_WORDS = 16 * 1024  # bytes of error output that are kept
GRACE = 5.0  # seconds in which ssh ends after its output did


class SshFailed(ConnectionResetError):
    """``ssh`` or the program over there ended with an error; the text holds what it said."""


def ssh_command(url: str, far_program: str = "boxship") -> list[str]:
    """Return the program and arguments that reach the engine at ``url``. Raises HostError for what is no such address.

    A path in the address is that of the engine's socket over there.
    """
    reason = "ssh host connection is not valid: invalid SSH URL: "
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise HostError(f"{reason}{exc}") from exc
    if parts.password:
        raise HostError(f"{reason}plain-text password is not supported")
    if not parts.hostname:
        raise HostError(f"{reason}hostname is empty")
    if parts.query:
        raise HostError(f'{reason}query parameters are not allowed: "{parts.query}"')
    if parts.fragment:
        raise HostError(f'{reason}fragments are not allowed: "{parts.fragment}"')
    command = ["ssh", "-o", f"ConnectTimeout={CONNECT_TIMEOUT}", "-T"]
    if parts.username:
        command += ["-l", unquote(parts.username)]
    if port is not None:
        command += ["-p", str(port)]
    far = split(far_program)
    if parts.path.strip("/"):
        far += ["--host", f"unix://{parts.path}"]
    # urlsplit's hostname is in lower case, but names in ssh's configuration need not be.
    name = parts.netloc.rpartition("@")[2]
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    return [*command, "--", name, join([*far, "system", "dial-stdio"])]


class SshStream:
    """The stdio of one ``ssh`` as a stream; its error output is kept for the message of a failure.

    ssh ends with the stream, and with this process however that ends. Raises HostError where there is no ssh.
    """

    def __init__(self, url: str) -> None:
        self._command = ssh_command(url, os.environ.get(COMMAND_VARIABLE) or "boxship")
        near, far = socketpair()
        self._words = _bounded_file(LAST_WORDS)
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=far.fileno(),
                stdout=far.fileno(),
                stderr=self._words,
                start_new_session=True,
                preexec_fn=lambda: set_parent_death_signal(SIGKILL),
            )
        except FileNotFoundError as exc:
            near.close()
            os.close(self._words)
            raise HostError('exec: "ssh": executable file not found in $PATH') from exc
        finally:
            far.close()
        self._stream: socket = near

    def recv(self, size: int, /) -> bytes:
        """Return what has arrived, nothing at the end. Raises SshFailed when that end is a failure."""
        try:
            data = self._stream.recv(size)
        except ConnectionResetError:
            data = b""
        if not data and size:
            self._check()
        return data

    def send(self, data: memoryview, /) -> int:
        """Send a part of ``data`` and return how much."""
        return self._stream.send(data)

    def sendall(self, data: bytes, /) -> None:
        """Send all of ``data``."""
        self._stream.sendall(data)

    def setblocking(self, flag: bool, /) -> None:
        """Choose whether calls wait."""
        self._stream.setblocking(flag)

    def shutdown(self, how: int, /) -> None:
        """End one direction or both."""
        self._stream.shutdown(how)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._stream.fileno()

    def close(self) -> None:
        """End ssh."""
        if self._stream.fileno() < 0:
            return
        self._stream.close()
        os.close(self._words)
        self._process.terminate()
        self._process.wait()

    def _check(self) -> None:
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return
        if code == 0:
            return
        words = os.pread(self._words, LAST_WORDS, 0).rstrip(b"\0").decode("utf-8", "replace").strip()
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        raise SshFailed(
            f"command [{' '.join(self._command)}] has exited with {how}, make sure the URL is valid, and Boxship is "
            f"installed on the remote host: stderr={words}"
        )


def _bounded_file(size: int) -> int:
    """Return a nameless file that never grows beyond ``size`` bytes, whoever writes."""
    descriptor = os.memfd_create("ssh-stderr", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor
