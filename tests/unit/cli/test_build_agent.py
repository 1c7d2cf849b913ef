"""The agent for keys in files: its answers are those of OpenSSH's, and others' libraries accept its signatures."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from boxship.cli.building.agent import Key, answer, load, serving
from boxship.cli.command import ExitError

Private = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def strings(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def written(key: Private, path: Path, *, form: str = "OpenSSH", passphrase: bytes = b"") -> str:
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    kind = getattr(serialization.PrivateFormat, form)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, how))
    return str(path)


def signed(key: Key, data: bytes, flags: int = 0) -> tuple[bytes, bytes]:
    request = b"\x0d" + string(key.blob) + string(data) + struct.pack(">I", flags)
    reply = answer([key], request)
    assert reply[:1] == b"\x0e"
    (signature,) = strings(reply[1:])
    name, value = strings(signature)
    return name, value


def test_keys_are_listed_with_their_files(tmp_path: Path) -> None:
    keys = [load(written(ed25519.Ed25519PrivateKey.generate(), tmp_path / name)) for name in "ab"]
    reply = answer(keys, b"\x0b")
    assert reply[:5] == b"\x0c" + struct.pack(">I", 2)
    assert strings(reply[5:]) == [
        keys[0].blob,
        str(tmp_path / "a").encode(),
        keys[1].blob,
        str(tmp_path / "b").encode(),
    ]


def test_signatures_of_all_kinds_of_keys_are_good(tmp_path: Path) -> None:
    small = ed25519.Ed25519PrivateKey.generate()
    name, value = signed(load(written(small, tmp_path / "e")), b"data")
    assert name == b"ssh-ed25519"
    small.public_key().verify(value, b"data")
    large = rsa.generate_private_key(65537, 2048)
    for flags, digest in ((2, hashes.SHA256()), (4, hashes.SHA512())):
        name, value = signed(load(written(large, tmp_path / "r", form="TraditionalOpenSSL")), b"data", flags)
        assert name == b"rsa-sha2-" + str(digest.digest_size * 8).encode()
        large.public_key().verify(value, b"data", padding.PKCS1v15(), digest)
    curve = ec.generate_private_key(ec.SECP384R1())
    name, value = signed(load(written(curve, tmp_path / "c", form="PKCS8")), b"data")
    assert name == b"ecdsa-sha2-nistp384"
    r, s = (int.from_bytes(number) for number in strings(value))
    curve.public_key().verify(utils.encode_dss_signature(r, s), b"data", ec.ECDSA(hashes.SHA384()))


@pytest.mark.parametrize(
    "request_",
    [b"", b"\x12", b"\x13", b"\x0d", b"\x0d\0\0\0\xffshort", b"\x0d" + string(b"other") + string(b"d") + bytes(4)],
)
def test_all_else_is_a_failure(request_: bytes, tmp_path: Path) -> None:
    key = load(written(rsa.generate_private_key(65537, 2048), tmp_path / "k"))
    assert answer([key], request_) == b"\x05"
    assert answer([key], b"\x0d" + string(key.blob) + string(b"d") + bytes(4)) == b"\x05"  # SHA-1


def test_a_passphrase_needs_a_terminal(tmp_path: Path) -> None:
    path = written(ed25519.Ed25519PrivateKey.generate(), tmp_path / "k", passphrase=b"secret")
    with pytest.raises(ExitError) as raised:
        load(path)
    assert "it has a passphrase" in raised.value.text


def test_a_socket_serves_while_it_is_wanted(tmp_path: Path) -> None:
    key = load(written(ed25519.Ed25519PrivateKey.generate(), tmp_path / "k"))
    with serving([key]) as path, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(string(b"\x0b") + string(b"\x13"))
        reply = client.makefile("rb")
        assert reply.read(4 + len(answer([key], b"\x0b"))) == string(answer([key], b"\x0b"))
        assert reply.read(5) == string(b"\x05")
    assert not Path(path).parent.exists()
