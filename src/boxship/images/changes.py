"""Dockerfile instructions that change an image's configuration, for ``import --change`` and ``commit --change``.

Words as in the Dockerfile reference: an instruction's arguments are in *exec form* when they are a JSON list of strings, in
*shell form* otherwise. Variables are those that the configuration sets before an instruction (``images.words``). Errors are
Docker's.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable

import msgspec

from boxship.base.errors import InvalidInput
from boxship.images.words import expand, expand_list
from boxship.spec.docker.container import ContainerConfig, HealthConfig

DEFAULT_SHELL = ("/bin/sh", "-c")

_PORTS = re.compile(r"(\d+)(?:-(\d+))?(?:/([a-zA-Z]+))?", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:ns|us|ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|ms|s|m|h)", re.ASCII)
_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_MINIMUM_NS = 10**6


def apply(config: ContainerConfig, changes: Iterable[str]) -> ContainerConfig:
    """Return ``config`` with the instructions carried out in order; a new entrypoint takes the old command away.

    Raises InvalidInput.
    """
    given = list(changes)
    lines = [line.partition(" ") for line in _lines("\n".join(given))]
    if given and not lines:
        raise InvalidInput("file with no instructions")
    command_given = False
    for name, _, arguments in lines:
        instruction = _INSTRUCTIONS.get(name.upper())
        if instruction is None:
            raise InvalidInput(f"{name.lower()} is not a valid change command")
        config = instruction(config, arguments.strip())
        command_given = command_given or instruction is _cmd
        if instruction is _entrypoint and config.entrypoint and not command_given:
            config = msgspec.structs.replace(config, cmd=None)
    return config


def _lines(change: str) -> list[str]:
    joined = re.sub(r"\\[ \t]*\n", "", change)
    lines = (line.strip().replace("\t", " ") for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


# words


def _exec_form(text: str) -> list[str] | None:
    """Return the words of the exec form, None when it is something else (then it is the shell form)."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _words(text: str) -> list[str]:
    """Split at spaces that are neither quoted nor escaped; quotes and backslashes are kept."""
    words: list[str] = []
    current, quote, position = "", "", 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\" and quote != "'" and position < len(text):
            character += text[position]
            position += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == " ":
            words += [current] if current else []
            current = ""
            continue
        current += character
    return [*words, current] if current else words


def _variables(config: ContainerConfig) -> dict[str, str]:
    return {key: value for key, _, value in (entry.partition("=") for entry in config.env or ())}


def _pairs(name: str, config: ContainerConfig, text: str) -> list[tuple[str, str]]:
    """Return the ``key=value`` arguments of ENV and LABEL; the old form is one key and the rest of the line."""
    if not text:
        raise InvalidInput(f"{name} requires at least one argument")
    variables = _variables(config)
    if "=" not in _words(text)[0]:
        key, space, value = text.partition(" ")
        if not space:
            raise InvalidInput(f"{name} must have two arguments")
        return [(expand(key, variables), expand(value.strip(), variables))]
    pairs = []
    for word in _words(text):
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidInput(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        if not key:
            raise InvalidInput(f"{name} names can not be blank")
        pairs.append((expand(key, variables), expand(value, variables)))
    return pairs


def _list(text: str) -> list[str]:
    words = _exec_form(text)
    return text.split() if words is None else words


def _one(name: str, config: ContainerConfig, text: str) -> str:
    if not text:
        raise InvalidInput(f"{name} requires exactly one argument")
    return expand(text, _variables(config))


def _command(config: ContainerConfig, text: str) -> list[str]:
    words = _exec_form(text)
    return [*(config.shell or DEFAULT_SHELL), *([text] if text else [])] if words is None else words


# instructions


def _cmd(config: ContainerConfig, text: str) -> ContainerConfig:
    return msgspec.structs.replace(config, cmd=_command(config, text))


def _entrypoint(config: ContainerConfig, text: str) -> ContainerConfig:
    return msgspec.structs.replace(config, entrypoint=(_command(config, text) if text else None) or None)


def _env(config: ContainerConfig, text: str) -> ContainerConfig:
    env = list(config.env or ())
    for key, value in _pairs("ENV", config, text):
        places = [index for index, entry in enumerate(env) if entry.partition("=")[0] == key]
        if places:
            env[places[0]] = f"{key}={value}"
        else:
            env.append(f"{key}={value}")
    return msgspec.structs.replace(config, env=env)


def _expose(config: ContainerConfig, text: str) -> ContainerConfig:
    if not text:
        raise InvalidInput("EXPOSE requires at least one argument")
    ports = dict(config.exposed_ports or {})
    variables = _variables(config)
    for word in (word for typed in text.split() for word in expand_list(typed, variables)):
        match = _PORTS.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last <= 65535:
            raise InvalidInput(f"Invalid containerPort: {word}")
        protocol = (match[3] or "tcp").lower()
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidInput(f"Invalid proto: {match[3]}")
        ports.update({f"{port}/{protocol}": {} for port in range(first, last + 1)})
    return msgspec.structs.replace(config, exposed_ports=ports)


def _label(config: ContainerConfig, text: str) -> ContainerConfig:
    return msgspec.structs.replace(config, labels={**(config.labels or {}), **dict(_pairs("LABEL", config, text))})


def _on_build(config: ContainerConfig, text: str) -> ContainerConfig:
    trigger = text.partition(" ")[0].upper()
    if not trigger:
        raise InvalidInput("ONBUILD requires at least one argument")
    if trigger == "ONBUILD":
        raise InvalidInput("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise InvalidInput(f"{trigger} isn't allowed as an ONBUILD trigger")
    return msgspec.structs.replace(config, on_build=[*(config.on_build or ()), text])


def _user(config: ContainerConfig, text: str) -> ContainerConfig:
    return msgspec.structs.replace(config, user=_one("USER", config, text))


def _volume(config: ContainerConfig, text: str) -> ContainerConfig:
    paths = [expand(path, _variables(config)).strip() for path in _list(text)]
    if not paths:
        raise InvalidInput("VOLUME requires at least one argument")
    if "" in paths:
        raise InvalidInput("VOLUME specified can not be an empty string")
    return msgspec.structs.replace(config, volumes={**(config.volumes or {}), **{path: {} for path in paths}})


def _workdir(config: ContainerConfig, text: str) -> ContainerConfig:
    path = posixpath.join("/", config.working_dir, _one("WORKDIR", config, text))
    return msgspec.structs.replace(config, working_dir="/" + posixpath.normpath(path).lstrip("/"))


def _stop_signal(config: ContainerConfig, text: str) -> ContainerConfig:
    signal = _one("STOPSIGNAL", config, text)
    if not re.fullmatch(r"(?:SIG)?[A-Z0-9+-]{1,16}", signal, re.ASCII | re.IGNORECASE):
        raise InvalidInput(f"Invalid signal: {signal}")
    return msgspec.structs.replace(config, stop_signal=signal)


def _shell(config: ContainerConfig, text: str) -> ContainerConfig:
    words = _exec_form(text)
    if words is None:
        raise InvalidInput("SHELL requires the arguments to be in JSON form")
    if not words:
        raise InvalidInput("SHELL requires at least one argument")
    return msgspec.structs.replace(config, shell=words)


def _healthcheck(config: ContainerConfig, text: str) -> ContainerConfig:
    options: dict[str, str] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        key, _, value = option[2:].partition("=")
        if key not in ("interval", "timeout", "start-period", "start-interval", "retries"):
            raise InvalidInput(f"Unknown flag: {key}")
        options[key] = value
        text = text.strip()
    kind, _, rest = text.partition(" ")
    kind, rest = kind.upper(), rest.strip()
    if not kind:
        raise InvalidInput("HEALTHCHECK requires at least one argument")
    if kind == "NONE":
        if rest:
            raise InvalidInput("HEALTHCHECK NONE takes no arguments")
        return msgspec.structs.replace(config, healthcheck=HealthConfig(test=["NONE"]))
    if kind != "CMD":
        raise InvalidInput(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    if not rest:
        raise InvalidInput("Missing command after HEALTHCHECK CMD")
    words = _exec_form(rest)
    health = HealthConfig(
        test=["CMD-SHELL", rest] if words is None else ["CMD", *words],
        interval=_duration("interval", options),
        timeout=_duration("timeout", options),
        start_period=_duration("start-period", options),
        start_interval=_duration("start-interval", options),
        retries=_retries(options.get("retries", "")),
    )
    return msgspec.structs.replace(config, healthcheck=health)


def _duration(name: str, options: dict[str, str]) -> int:
    text = options.get(name, "")
    if not text:
        return 0
    if not _DURATION.fullmatch(text):
        raise InvalidInput(f'time: invalid duration "{text}"')
    value = int(sum(float(number) * _NS[unit] for number, unit in _DURATION_PART.findall(text)))
    if 0 < value < _MINIMUM_NS:
        raise InvalidInput(f'Interval "{name}" cannot be less than 1ms')
    return value


def _retries(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < 1:
        raise InvalidInput(f"--retries must be at least 1 (not {text})")
    return int(text)


_INSTRUCTIONS: dict[str, Callable[[ContainerConfig, str], ContainerConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
