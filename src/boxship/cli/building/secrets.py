"""``--secret`` and ``--ssh``: what steps may see while they run and nothing keeps. Errors are Docker's where it has them."""

from __future__ import annotations

import os
from binascii import b2a_base64
from contextlib import ExitStack, contextmanager

from boxship.cli import csvfields
from boxship.cli.command import ExitError
from boxship.client import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEADER = "X-Boxship-Secrets"  # how many bytes of the body are the secrets, which come before the context
LARGEST = 500 * 1024  # bytes of one secret, as in BuildKit


def secrets_document(items: Sequence[str]) -> bytes:
    """Return what ``--secret`` asks for as the engine takes it: a JSON object, ids to values in base64. Raises ExitError."""
    values = dict(_secret(item) for item in items)
    text = jsontext.dumps({id: b2a_base64(value, newline=False).decode() for id, value in values.items()})
    return text.encode("utf-8", "surrogateescape")


@contextmanager
def agents(items: Sequence[str]) -> Iterator[dict[str, str]]:
    """Give the sockets of agents that ``--ssh`` names, by id; keys in files have an agent of their own meanwhile.

    Raises ExitError.
    """
    found: dict[str, str] = {}
    with ExitStack() as stack:
        for item in items:
            id, equals, given = item.partition("=")
            path = given if equals else os.environ.get("SSH_AUTH_SOCK", "")
            if not path:
                raise ExitError(f"invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set (--ssh {item})")
            paths = path.split(",")
            if any(map(_is_socket, paths)):
                if len(paths) > 1:
                    raise ExitError(f"--ssh {item}: only a single socket is allowed")
                found[id] = os.path.abspath(path)
            elif not equals:
                raise ExitError(f"--ssh {item}: {path} is no socket of an agent")
            else:
                from boxship.cli.building import agent

                found[id] = stack.enter_context(agent.serving([agent.load(each) for each in paths]))
        yield found


def _is_socket(path: str) -> bool:
    import stat

    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _secret(item: str) -> tuple[str, bytes]:
    """Return id and value of one ``--secret``. Without ``src`` and ``env``, the id names a variable or else a file."""
    fields = {"id": "", "src": "", "env": "", "type": ""}
    try:
        parts = csvfields.split(item)
    except ValueError as exc:
        raise ExitError(f"failed to parse csv secret: {exc}") from exc
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise ExitError(f"invalid field '{part}' must be a key=value pair")
        key = "src" if key.lower() == "source" else key.lower()
        if key not in fields:
            raise ExitError(f"unexpected key '{key}' in '{part}'")
        fields[key] = value
    id, path, variable = fields["id"], fields["src"], fields["env"]
    if fields["type"] not in ("", "file", "env"):
        raise ExitError(f'unsupported secret type "{fields["type"]}"')
    if not id:
        raise ExitError(f"secret missing 'id' in '{item}'")
    if fields["type"] == "env" and not variable:
        path, variable = "", path or id
    if not path and not variable:
        path, variable = ("", id) if fields["type"] != "file" and id in os.environ else (id, "")
    return id, _variable(id, variable) if variable else _file(id, path)


def _variable(id: str, name: str) -> bytes:
    value = os.environb.get(os.fsencode(name))
    if value is None:
        raise ExitError(f"secret {id}: environment variable {name} is not set")
    return value


def _file(id: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            value = file.read(LARGEST + 1)
    except OSError as exc:
        raise ExitError(f"failed to read secret {id}: {path}: {(exc.strerror or '').lower()}") from exc
    if len(value) > LARGEST:
        raise ExitError(f"secret {id} too big. max size 500KB")
    return value
