"""Dockerfile instructions that change an image's configuration, for ``import --change`` and ``commit --change``.

Variables are those that the configuration sets before an instruction. Errors are Docker's.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.dockerfile import config as effects
from boxship.spec.dockerfile.instructions import Cmd, Entrypoint
from boxship.spec.dockerfile.lines import read
from boxship.spec.dockerfile.parse import parse_line
from boxship.spec.dockerfile.words import Variables

_ALLOWED = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip


def apply(config: ContainerConfig, changes: Iterable[str]) -> ContainerConfig:
    """Return ``config`` with the instructions carried out in order; a new entrypoint takes the old command away.

    Raises InvalidInput.
    """
    given = list(changes)
    if not given:
        return config
    command_given = False
    for line in read("\n".join(given).encode("utf-8", "surrogateescape")).instructions:
        if line.keyword not in _ALLOWED:
            raise InvalidInput(f"{line.keyword.lower()} is not a valid change command")
        instruction = parse_line(line)
        config = effects.apply(instruction, config, Variables(effects.environment(config)))
        command_given = command_given or isinstance(instruction, Cmd)
        if isinstance(instruction, Entrypoint) and config.entrypoint and not command_given:
            config = replace(config, cmd=None)
    return config
