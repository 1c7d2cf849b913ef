"""An agent with keys of files, for ``--ssh ID=KEY[,KEY...]``: it knows them while this command runs, and only signs.

The protocol is that of OpenSSH (draft-ietf-sshm-ssh-agent): two requests, each answered with one message. Signatures come from the library
``cryptography``; keys on hardware and certificates need a real agent.
"""

from __future__ import annotations

import os
import socket
import struct
from binascii import a2b_base64
from contextlib import contextmanager

from boxship.cli.command import STDIN, ExitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

_FAILURE, _IDENTITIES_ANSWER, _SIGN_RESPONSE = b"\x05", b"\x0c", b"\x0e"
_REQUEST_IDENTITIES, _SIGN_REQUEST = 11, 13
_RSA_SHA2_256, _RSA_SHA2_512 = 2, 4  # flags of a request
_LARGEST = 256 * 1024  # bytes of a message
_LARGEST_KEY = 100 * 1024  # bytes of a file


class Key:
    """One private key. ``blob`` is its public half as the protocol writes it."""

    __slots__ = ("_key", "blob", "comment")

    def __init__(self, key: Any, comment: str) -> None:
        from cryptography.hazmat.primitives import serialization

        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        self._key = key
        self.blob = a2b_base64(public.split()[1])
        self.comment = comment

    def sign(self, data: bytes, flags: int) -> bytes:
        """Return the signature as the protocol writes it. Raises ValueError for an algorithm that there is not."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return _string(b"ssh-ed25519") + _string(self._key.sign(data))
        if isinstance(self._key, rsa.RSAPrivateKey) and flags & (_RSA_SHA2_256 | _RSA_SHA2_512):
            long = bool(flags & _RSA_SHA2_512)
            signature = self._key.sign(data, padding.PKCS1v15(), hashes.SHA512() if long else hashes.SHA256())
            return _string(b"rsa-sha2-512" if long else b"rsa-sha2-256") + _string(signature)
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            size = self._key.key_size
            digest = hashes.SHA256() if size <= 256 else hashes.SHA384() if size <= 384 else hashes.SHA512()
            r, s = utils.decode_dss_signature(self._key.sign(data, ec.ECDSA(digest)))
            name = b"ecdsa-sha2-nistp%d" % size
            return _string(name) + _string(_string(_number(r)) + _string(_number(s)))
        raise ValueError("no such signature")


def load(path: str) -> Key:
    """Return the key of a file; asks for its passphrase on a terminal. Raises ExitError."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST_KEY + 1)
    except OSError as exc:
        raise ExitError(f"failed to open {path}: {(exc.strerror or '').lower()}") from exc
    if len(text) > _LARGEST_KEY:
        raise ExitError(f"failed to parse {path}: it is too big for a private key")
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        try:
            return Key(_parsed(text, None), path)
        except TypeError:  # it has a passphrase
            return Key(_parsed(text, _passphrase(path)), path)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ExitError(f"failed to parse {path}: it is no private key, or the passphrase is wrong") from exc


def answer(keys: Sequence[Key], request: bytes) -> bytes:
    """Return the answer to a request, both without their lengths."""
    if request[:1] == bytes([_REQUEST_IDENTITIES]):
        rows = b"".join(_string(key.blob) + _string(os.fsencode(key.comment)) for key in keys)
        return _IDENTITIES_ANSWER + struct.pack(">I", len(keys)) + rows
    if request[:1] != bytes([_SIGN_REQUEST]):
        return _FAILURE
    try:
        blob, rest = _take(request[1:])
        data, rest = _take(rest)
        (flags,) = struct.unpack(">I", rest)
        key = next(key for key in keys if key.blob == blob)
        return _SIGN_RESPONSE + _string(key.sign(data, flags))
    except (ValueError, struct.error, StopIteration):
        return _FAILURE


@contextmanager
def serving(keys: Sequence[Key]) -> Iterator[str]:
    """Answer on a socket for the time of the ``with``; give its path, in a directory that only its user can enter."""
    from tempfile import TemporaryDirectory
    from threading import Thread

    with TemporaryDirectory(prefix="boxship-agent-") as directory:
        path = os.path.join(directory, "agent")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(path)
        listening.listen()

        def accept() -> None:
            while True:
                client, _ = listening.accept()
                Thread(target=_converse, args=(keys, client), daemon=True).start()

        Thread(target=accept, daemon=True).start()
        yield path


def _converse(keys: Sequence[Key], client: socket.socket) -> None:
    with client, client.makefile("rb") as requests:
        try:
            while len(head := requests.read(4)) == 4:
                (length,) = struct.unpack(">I", head)
                if length > _LARGEST:
                    return
                client.sendall(_string(answer(keys, requests.read(length))))
        except OSError:
            pass  # the engine has gone


def _parsed(text: bytes, password: bytes | None) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in text else load_pem_private_key
    return load(text, password)


def _passphrase(path: str) -> bytes:
    if not os.isatty(STDIN):
        raise ExitError(f"failed to parse {path}: it has a passphrase, and there is no terminal to ask for it")
    from getpass import getpass

    return getpass(f"Enter passphrase for key '{path}': ").encode()


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _number(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1)


def _take(data: bytes) -> tuple[bytes, bytes]:
    """Return the string that ``data`` begins with, and the rest. Raises ValueError."""
    if len(data) < 4:
        raise ValueError("too short")
    (length,) = struct.unpack(">I", data[:4])
    if len(data) - 4 < length:
        raise ValueError("too short")
    return data[4 : 4 + length], data[4 + length :]
