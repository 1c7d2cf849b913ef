"""What the store keeps of volumes, whoever their driver is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from boxship.base.errors import Conflict, NotFound
from boxship.store import ReadTransaction, Transaction

KIND = "volume"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
LOCAL = "local"  # the driver whose volumes are directories of ours; all others are plugins


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One volume; ``users`` are the ids of the containers that refer to it."""

    name: str
    created_ns: int
    driver: str = LOCAL
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    users: list[str] = []
    removing: bool = False
    renamed_from: str = ""  # its directory may have that name still


def get(tx: ReadTransaction, name: str) -> Row | None:
    """Return a volume's row, None when there is none."""
    document = tx.get(KIND, name)
    return None if document is None else msgspec.json.decode(document, type=Row)


def existing(tx: ReadTransaction, name: str) -> Row:
    """Return the row of a volume that is not being removed; raises NotFound."""
    row = get(tx, name)
    if row is None or row.removing:
        raise NotFound(f"get {name}: no such volume")
    return row


def put(tx: Transaction, row: Row) -> None:
    """Write a row."""
    tx.put(KIND, row.name, msgspec.json.encode(row))


def local_names(tx: ReadTransaction) -> list[str]:
    """Return the names of the volumes that are directories of ours."""
    return [name for name, document in tx.list(KIND) if msgspec.json.decode(document, type=Row).driver == LOCAL]


def check_unused(row: Row, action: str) -> None:
    """Raise Conflict for a volume that containers refer to."""
    if row.users:
        raise Conflict(f"{action} {row.name}: volume is in use - [{', '.join(row.users)}]")


def drop_users(tx: Transaction, row: Row, gone: Callable[[str], bool]) -> None:
    """Forget the users that are ``gone``."""
    users = [user for user in row.users if not gone(user)]
    if users != row.users:
        put(tx, msgspec.structs.replace(row, users=users))
