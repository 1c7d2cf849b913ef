"""Names of users and groups become numbers here, on the root filesystem that the process will see.

Only the shim can do this right: the container may have changed its passwd file since the image was made.
"""

from __future__ import annotations

import os

from boxship.linux import fs
from boxship.runtime.failure import RuntimeFailure
from boxship.runtime.user import UserError, resolve_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def apply(process: dict[str, Any], wanted: dict[str, Any] | None, root: str) -> None:
    """Fill ``process["user"]`` in from ``wanted`` (``{"name": "app:staff", "groups": [...]}``), None keeps what is there; groups that
    are there already stay.

    ``root`` is the host path of the mounted root filesystem. A user other than root loses effective and permitted
    capabilities, as Docker has it. Raises RuntimeFailure in Docker's words.
    """
    if wanted is None:
        return
    root_fd = os.open(root, fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        user = resolve_user(root_fd, wanted.get("name") or "", wanted.get("groups") or [])
    except UserError as exc:
        raise RuntimeFailure(str(exc)) from exc
    finally:
        os.close(root_fd)
    given = process.get("user", {})
    groups = list(dict.fromkeys([*user.groups, *(given.get("additionalGids") or [])]))
    process["user"] = {**given, "uid": user.uid, "gid": user.gid, "additionalGids": groups}
    capabilities = process.get("capabilities")
    if user.uid != 0 and capabilities:
        process["capabilities"] = {**capabilities, "effective": [], "permitted": []}
