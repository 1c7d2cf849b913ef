"""What instructions do to an image's configuration; for builds, ``commit --change`` and ``import --change``."""

from __future__ import annotations

import posixpath
import re
import signal as signals
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import ContainerConfig, HealthConfig
from boxship.spec.dockerfile import instructions
from boxship.spec.dockerfile.instructions import Command, Instruction
from boxship.spec.dockerfile.words import Variables

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# An address and a port of the host may stand before, as in docker run; they say nothing in an image.
_PORTS = re.compile(r"(?:[0-9A-Fa-f.:\[\]]*:)?(\d{1,9})(?:-(\d{1,9}))?(?:/([a-zA-Z]+))?", re.ASCII)
_SIGNALS = {each.name.removeprefix("SIG") for each in signals.Signals}
_REALTIME = re.compile(r"RTM(?:IN(?:\+\d{1,2})?|AX(?:-\d{1,2})?)", re.ASCII)


def environment(config: ContainerConfig) -> dict[str, str]:
    """Return the variables that the configuration sets."""
    return {key: value for key, _, value in (entry.partition("=") for entry in config.env or ())}


def argv(config: ContainerConfig, command: Command) -> list[str]:
    """Return the words of a command; the shell form goes to the configuration's shell."""
    return [*command.words] if command.is_exec else [*(config.shell or DEFAULT_SHELL), *command.words]


def set_env(config: ContainerConfig, pairs: Iterable[tuple[str, str]]) -> ContainerConfig:
    """Return the configuration with these variables; one that was there keeps its place."""
    env = list(config.env or ())
    places = {entry.partition("=")[0]: index for index, entry in enumerate(env)}
    for key, value in pairs:
        if key in places:
            env[places[key]] = f"{key}={value}"
        else:
            places[key] = len(env)
            env.append(f"{key}={value}")
    return replace(config, env=env)


def apply(instruction: Instruction, config: ContainerConfig, variables: Variables) -> ContainerConfig:
    """Return the configuration after the instruction. Raises InvalidInput with Docker's words.

    ``variables`` are those before the instruction. RUN, COPY and the like leave the configuration as it is; that ENTRYPOINT
    takes a command of the base image away is the caller's to do, who knows where the command came from.
    """
    match instruction:
        case instructions.Cmd():
            return replace(config, cmd=argv(config, instruction.command))
        case instructions.Entrypoint():
            return replace(config, entrypoint=argv(config, instruction.command) if instruction.command.words else None)
        case instructions.Env():
            pairs = [(variables.word(key), variables.word(value)) for key, value in instruction.pairs]
            return set_env(config, pairs)
        case instructions.Label():
            labels = {variables.word(key): variables.word(value) for key, value in instruction.pairs}
            return replace(config, labels={**(config.labels or {}), **labels})
        case instructions.Expose():
            return replace(config, exposed_ports={**(config.exposed_ports or {}), **_ports(instruction, variables)})
        case instructions.User():
            return replace(config, user=variables.word(instruction.user))
        case instructions.Volume():
            return replace(config, volumes={**(config.volumes or {}), **_volumes(instruction, variables)})
        case instructions.Workdir():
            return replace(config, working_dir=absolute(config, variables.word(instruction.path)))
        case instructions.StopSignal():
            return replace(config, stop_signal=_signal(instruction, variables))
        case instructions.Shell():
            return replace(config, shell=[*instruction.words])
        case instructions.Healthcheck():
            return replace(config, healthcheck=_inherited(instruction.check, config.healthcheck))
        case instructions.OnBuild():
            return replace(config, on_build=[*(config.on_build or ()), instruction.trigger])
    return config


def _inherited(check: HealthConfig, before: HealthConfig | None) -> HealthConfig:
    """Return the check with what it leaves open taken from the one before, as Docker's builder merges them."""
    if before is None:
        return check
    return HealthConfig(
        test=check.test,
        interval=check.interval or before.interval,
        timeout=check.timeout or before.timeout,
        start_period=check.start_period or before.start_period,
        start_interval=check.start_interval or before.start_interval,
        retries=check.retries or before.retries,
    )


def absolute(config: ContainerConfig, path: str) -> str:
    """Return ``path`` from the working directory, as short as can be."""
    joined = posixpath.join("/", config.working_dir, path)
    return "/" + posixpath.normpath(joined).lstrip("/")


def _ports(instruction: instructions.Expose, variables: Variables) -> dict[str, dict[str, Any]]:
    ports: dict[str, dict[str, Any]] = {}
    for word in (word for text in instruction.ports for word in variables.words(text)):
        match = _PORTS.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last <= 65535:
            raise InvalidInput(f"Invalid containerPort: {word}")
        protocol = (match[3] or "tcp").lower()
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidInput(f"Invalid proto: {match[3]}")
        ports.update({f"{port}/{protocol}": {} for port in range(first, last + 1)})
    return ports


def _volumes(instruction: instructions.Volume, variables: Variables) -> dict[str, dict[str, Any]]:
    paths = [variables.word(path).strip() for path in instruction.paths]
    if "" in paths:
        raise InvalidInput("VOLUME specified can not be an empty string")
    return {path: {} for path in paths}


def _signal(instruction: instructions.StopSignal, variables: Variables) -> str:
    signal = variables.word(instruction.signal)
    name = signal.upper().removeprefix("SIG")
    number = int(signal) if re.fullmatch(r"\d{1,9}", signal, re.ASCII) else 0
    if not number and name not in _SIGNALS and not _REALTIME.fullmatch(name):
        raise InvalidInput(f"Invalid signal: {signal}")
    return signal
