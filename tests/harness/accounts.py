"""Users and subordinate ids that only one daemon sees: files bound over the host's in a mount namespace of its own."""

from __future__ import annotations

from pathlib import Path

REMAP_USER = "dockremap"


def with_accounts(directory: Path, *, first: int, size: int = 65536) -> list[str]:
    """Return the words in front of a program that is to find the user ``dockremap`` with ``size`` ids from ``first`` on.

    The files are made in ``directory``; the host's stay as they are.
    """
    directory.mkdir()
    lines = {
        "passwd": f"{REMAP_USER}:x:{first - 1}:{first - 1}::/nonexistent:/bin/false\n",
        "group": f"{REMAP_USER}:x:{first - 1}:\n",
        "subuid": f"{REMAP_USER}:{first}:{size}\n",
        "subgid": f"{REMAP_USER}:{first}:{size}\n",
    }
    binds = []
    for name, line in lines.items():
        host = Path("/etc", name)
        shown = host.read_text() if name in ("passwd", "group") else ""
        (directory / name).write_text(shown + line)
        if not host.exists():
            continue
        binds.append(f"mount --bind {directory / name} {host}")
    script = " && ".join([*binds, 'exec "$@"'])
    return ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"]
