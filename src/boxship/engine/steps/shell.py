"""What a shell in a failed step's files is asked to be (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from boxship.engine.debug.holders import TOOLS
from boxship.engine.options import oci
from boxship.runtime.toolbox import PLACE
from boxship.spec.docker.container import HostConfig

_SHELLS = ("/bin/bash", "/bin/sh")  # the first that the files have, else the tools' own
_CHOOSE = 'for shell in "$@"; do if [ -x "$shell" ]; then exec "$shell"; fi; done; exec sh'


def command(toolbox: str) -> list[str]:
    """Return the words that start a shell; ``toolbox`` is "" where there is none."""
    return [f"{TOOLS}/sh", "-c", _CHOOSE, "sh", *_SHELLS] if toolbox else ["/bin/sh"]


def environment(env: Sequence[str], toolbox: str) -> list[str]:
    """Return the program's variables, with the tools behind all other places of programs."""
    if not toolbox:
        return list(env)
    path = next((entry[5:] for entry in reversed(env) if entry.startswith("PATH=")), "")
    return oci.replace_env(list(env), [f"PATH={path}:{TOOLS}" if path else f"PATH={TOOLS}"])


def surroundings(host: HostConfig, toolbox: str, height: int, width: int) -> HostConfig:
    """Return the program's limits and network, with a terminal of this size and the tools."""
    host = msgspec.structs.replace(host, console_size=[height, width] if height and width else None)
    if not toolbox:
        return host
    masked = [path for path in oci.MASKED_PATHS if path != PLACE]
    return msgspec.structs.replace(host, binds=[f"{toolbox}:{PLACE}:ro"], masked_paths=masked)
