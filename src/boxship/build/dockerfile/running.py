"""RUN as an operation of the graph."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Mapping

from boxship.base.errors import InvalidInput
from boxship.build.dockerfile.copying import clean
from boxship.build.dockerfile.sources import Inputs
from boxship.build.graph import Mount, Run, Vertex
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.dockerfile import config as effects
from boxship.spec.dockerfile import instructions
from boxship.spec.dockerfile.instructions import Command
from boxship.spec.dockerfile.lines import heredoc, text_only
from boxship.spec.dockerfile.mounts import MountOptions, boolean, mount_origin, parse_mount
from boxship.spec.dockerfile.suggest import suggest
from boxship.spec.dockerfile.words import Variables

_SCRIPTS = "/dev/pipes"  # where a heredoc that names its interpreter is shown as a file
_SECRETS = "/run/secrets"
_SSH = "/run/buildkit/ssh_agent"
_DEVICE_KEYS = ("name", "required")


class Running:
    """One RUN with its variables replaced in mounts; the program's words are the shell's to expand. Raises InvalidInput."""

    def __init__(self, instruction: instructions.Run, config: ContainerConfig, variables: Variables) -> None:
        self._instruction = instruction
        self._config = config
        self._mounts = [parse_mount(text, variables.word) for text in instruction.mounts]
        self._origins = [mount_origin(text) for text in instruction.mounts]
        self._devices = [_device(text) for text in instruction.devices]
        self._script = self._own_interpreter()
        argv = [self._script[0]] if self._script else effects.argv(config, self._command())
        self.argv = [text_only(word) for word in argv]
        if not self.argv:
            raise InvalidInput("RUN requires at least one argument")

    def origins(self) -> set[str]:
        """Return what mounts are taken from beside the context, as written."""
        return {origin for origin in self._origins if origin}

    def operation(
        self,
        inputs: Inputs,
        origins: Mapping[str, Vertex],
        *,
        arguments: Mapping[str, str],
        uncounted: tuple[str, ...],
        network: str,
    ) -> tuple[Run, list[Vertex]]:
        """Return the operation and the vertices that it reads beside the stage's own files."""
        sources: list[Vertex] = []
        mounts: list[Mount] = []
        if self._script:
            sources.append(inputs.text(posixpath.basename(self._script[0]), self._script[1]))
            mounts.append(Mount(type="bind", target=_SCRIPTS, input=1, source="/", read_only=True))
        for number, (options, origin) in enumerate(zip(self._mounts, self._origins, strict=True)):
            input = -1
            if origin or options.type == "bind":
                sources.append(origins[origin] if origin else inputs.context())
                input = len(sources)
            mounts.append(self._mount(options, input, number))
        env = [*(self._config.env or ()), *(f"{name}={value}" for name, value in arguments.items())]
        asked = self._instruction.network or network
        return Run(
            args=tuple(self.argv),
            env=tuple(env),
            cwd=self._config.working_dir or "/",
            user=self._config.user,
            mounts=tuple(mounts),
            network="none" if asked == "none" else "host" if asked == "host" else "default",
            security="insecure" if self._instruction.security == "insecure" else "sandbox",
            devices=tuple(name for name, _ in self._devices),
            needed_devices=tuple(name for name, required in self._devices if required),
            uncounted_env=uncounted,
        ), sources

    def _mount(self, options: MountOptions, input: int, number: int) -> Mount:
        target = effects.absolute(self._config, options.target) if options.target else ""
        id = options.id
        if options.type == "secret":
            id = id or options.source or posixpath.basename(target)
            if not target and options.env is None:
                target = f"{_SECRETS}/{posixpath.basename(id)}"
        elif options.type == "ssh":
            id = id or "default"
            target = target or f"{_SSH}.{number}"
        elif options.type == "cache":
            id = id or target
        return Mount(
            type=options.type,
            target=target,
            input=input,
            source="" if options.type in ("secret", "ssh", "tmpfs") else clean(options.source),
            read_only=options.read_only,
            id=id,
            sharing=options.sharing or "shared",
            required=options.required,
            env=options.env or "",
            mode=options.mode,
            uid=options.uid or 0,
            gid=options.gid or 0,
            size=options.size,
        )

    def _own_interpreter(self) -> tuple[str, str] | None:
        """Return path and text of a heredoc that is all of the command and begins with ``#!``."""
        instruction = self._instruction
        if len(instruction.heredocs) != 1 or not self._is_heredoc_alone():
            return None
        only = instruction.heredocs[0]
        return (f"{_SCRIPTS}/{posixpath.basename(only.name)}", only.text) if only.data.startswith("#!") else None

    def _is_heredoc_alone(self) -> bool:
        return bool(self._instruction.heredocs) and heredoc(self._instruction.command.words[0].strip()) is not None

    def _command(self) -> Command:
        instruction = self._instruction
        if not instruction.heredocs:
            return instruction.command
        if self._is_heredoc_alone():
            return Command((instruction.heredocs[0].text,), False)
        # The shell reads the heredocs itself.
        bodies = "".join(f"\n{each.data}{each.name}" for each in instruction.heredocs)
        return Command((instruction.command.words[0] + bodies,), False)


def _device(text: str) -> tuple[str, bool]:
    """Return the name and whether it must be there: ``NAME[,required]``, ``name=NAME,required=BOOL``. Raises InvalidInput."""
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as exc:
        raise InvalidInput(f"failed to parse csv devices: {exc}") from exc
    name, required = "", False
    for field in fields:
        key, equals, value = field.partition("=")
        match key.lower():
            case "name" if equals:
                if name:
                    raise InvalidInput(f"device name already set to {name}")
                name = value
            case "required":
                required = boolean("required", value if equals else "true")
            case _ if not name:
                name = field
            case _ if not equals:
                raise InvalidInput(f"invalid field '{field}' must be a key=value pair")
            case _:
                raise InvalidInput(f"unexpected key '{key.lower()}' in '{field}'{suggest(key.lower(), _DEVICE_KEYS)}")
    return name, required
