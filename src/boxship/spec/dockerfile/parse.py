"""Lines become typed instructions; what can be refused before a build is planned is refused here, in Docker's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import HealthConfig
from boxship.spec.dockerfile import arguments, instructions
from boxship.spec.dockerfile.arguments import go_quoted
from boxship.spec.dockerfile.errors import DockerfileError
from boxship.spec.dockerfile.instructions import Command, File, Instruction
from boxship.spec.dockerfile.lines import Heredoc, Line, Source, heredoc, read, text_only
from boxship.spec.dockerfile.suggest import suggest

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*", re.ASCII)
_DURATION = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_MINIMUM_NS = 10**6
_LONGEST_NS = 1 << 63
_UNREADABLE = "failed to parse Dockerfile: "


def parse(text: bytes, name: str = "Dockerfile") -> File:
    """Read a Dockerfile. Raises DockerfileError for whatever is wrong with it."""
    if not text:
        raise DockerfileError(f"the Dockerfile ({name}) cannot be empty", name=name)
    try:
        source = read(text, name)
    except DockerfileError as exc:
        raise DockerfileError(_UNREADABLE + str(exc), name=name, line=exc.line, excerpt=exc.excerpt) from exc
    found = tuple(_located(line, source) for line in source.instructions)
    return File(
        name=name,
        lines=source.lines,
        escape=source.escape,
        syntax=source.syntax,
        check=source.check,
        empty_continuations=source.empty_continuations,
        instructions=found,
    )


def parse_line(line: Line, escape: str = "\\") -> Instruction:
    """Return the instruction on a line. Raises InvalidInput with Docker's words."""
    maker = _MAKERS.get(line.keyword)
    if maker is None:
        near = suggest(line.keyword, _MAKERS)
        raise InvalidInput(f"unknown instruction: {line.keyword}{near}")
    try:
        return maker(line, escape)
    except ValueError as exc:
        raise InvalidInput(str(exc)) from exc


def _located(line: Line, source: Source) -> Instruction:
    try:
        return parse_line(line, source.escape)
    except InvalidInput as exc:
        malformed = isinstance(exc.__cause__, arguments.Malformed)
        text = f"{_UNREADABLE if malformed else f'dockerfile parse error line {line.line}: '}{exc}"
        if line.keyword == "FROM" and " #" in line.text:
            text += " (a comment must stand on a line of its own: what follows # is taken as arguments here)"
            raise source.error(text, line.line, line.end_line, line.text[line.text.index(" #") + 1 :]) from exc
        raise source.error(text, line.line, line.end_line, line.written) from exc


class _Flags:
    """The flags of an instruction: names with the kinds "" (text), "list" and "bool"."""

    def __init__(self, line: Line, **kinds: str) -> None:
        self._given: dict[str, list[str]] = {}
        self._kinds = {name.replace("_", "-"): kind for name, kind in kinds.items()}
        for flag in line.flags:
            name, equals, value = flag.removeprefix("--").partition("=")
            kind = self._kinds.get(name)
            if kind is None:
                raise ValueError(f"Unknown flag: {name}{suggest(name, self._kinds)}")
            if name in self._given and kind != "list":
                raise ValueError(f"Duplicate flag specified: {name}")
            if (not equals and kind != "bool") or (equals and not value and kind == "bool"):
                raise ValueError(f"Missing a value on flag: {name}")
            if kind == "bool" and value.lower() not in ("", "true", "false"):
                raise ValueError(f"Expecting boolean value for flag {name}, not: {value}")
            self._given.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        return self._given.get(name, [""])[-1]

    def list(self, name: str) -> tuple[str, ...]:
        return tuple(self._given.get(name, ()))

    def is_set(self, name: str) -> bool:
        return name in self._given and self._given[name][-1].lower() != "false"

    def is_set_or_none(self, name: str) -> bool | None:
        return self.is_set(name) if name in self._given else None


def _command(text: str) -> Command:
    words = arguments.exec_form(text)
    return Command((text,) if text else (), False) if words is None else Command(words, True)


def _list(text: str) -> tuple[str, ...]:
    words = arguments.exec_form(text)
    return tuple(text.split()) if words is None else words


def _one(line: Line) -> str:
    _Flags(line)
    if not line.arguments:
        raise ValueError(f"{line.keyword} requires exactly one argument")
    return line.arguments


def _from(line: Line, _: str) -> Instruction:
    words = line.arguments.split()
    flags = _Flags(line, platform="")
    name = ""
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise ValueError(
                f"invalid name for build stage: {go_quoted(words[2])}, name can't start with a number or contain symbols"
            )
    elif len(words) != 1:
        raise ValueError("FROM requires either one or three arguments")
    return instructions.From(source=line, base=words[0], name=name, platform=flags.text("platform"))


def _run(line: Line, _: str) -> Instruction:
    flags = _Flags(line, mount="list", network="", security="", device="list")
    command = _command(line.arguments)
    if not command.words:
        raise ValueError("RUN requires at least one argument")
    network, security = flags.text("network"), flags.text("security")
    if network and network not in ("default", "none", "host"):
        raise ValueError(
            f"unsupported network mode {go_quoted(network)}{suggest(network, ('default', 'none', 'host'))}"
        )
    if security and security not in ("sandbox", "insecure"):
        raise ValueError(f'security "{security}" is not valid{suggest(security, ("sandbox", "insecure"))}')
    return instructions.Run(
        source=line,
        command=command,
        heredocs=line.heredocs,
        mounts=flags.list("mount"),
        network=network,
        security=security,
        devices=flags.list("device"),
    )


def _copy(line: Line, _: str) -> Instruction:
    add = line.keyword == "ADD"
    kinds = {"chown": "", "chmod": "", "link": "bool", "exclude": "list"}
    if add:
        kinds |= {"checksum": "", "keep_git_dir": "bool", "unpack": "bool"}
    else:
        kinds |= {"from": "", "parents": "bool"}
    flags = _Flags(line, **kinds)
    words = _list(line.arguments)  # quotes do not keep a path with spaces together: that takes the exec form
    if len(words) < 2:
        raise ValueError(
            f"{line.keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    if line.heredocs and heredoc(words[-1]) is not None:
        raise ValueError(f"{line.keyword} cannot accept a heredoc as a destination")
    names = {each.name for each in line.heredocs}
    begun = [heredoc(word) for word in words[:-1]] if names else [None] * (len(words) - 1)
    return instructions.Copy(
        source=line,
        sources=tuple(word for word, each in zip(words, begun, strict=False) if each is None),
        files=line.heredocs,
        target=words[-1],
        add=add,
        origin=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.is_set("link"),
        parents=flags.is_set("parents"),
        exclude=flags.list("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.is_set("keep-git-dir"),
        unpack=flags.is_set_or_none("unpack"),
    )


def _arg(line: Line, escape: str) -> Instruction:
    _Flags(line)
    found = arguments.words(line.arguments, escape)
    if not found:
        raise ValueError("ARG requires at least one argument")
    pairs = []
    for word in found:
        name, equals, value = word.partition("=")
        if not name:
            raise ValueError("ARG names can not be blank")
        pairs.append((name, value if equals else None))
    return instructions.Arg(source=line, arguments=tuple(pairs))


def _env(line: Line, escape: str) -> Instruction:
    _Flags(line)
    pairs, legacy = arguments.pairs("ENV", line.arguments, escape)
    return instructions.Env(source=line, pairs=pairs, legacy=legacy)


def _label(line: Line, escape: str) -> Instruction:
    _Flags(line)
    pairs, legacy = arguments.pairs("LABEL", line.arguments, escape)
    return instructions.Label(source=line, pairs=pairs, legacy=legacy)


def _cmd(line: Line, _: str) -> Instruction:
    _Flags(line)
    return instructions.Cmd(source=line, command=_command(line.arguments))


def _entrypoint(line: Line, _: str) -> Instruction:
    _Flags(line)
    return instructions.Entrypoint(source=line, command=_command(line.arguments))


def _shell(line: Line, _: str) -> Instruction:
    _Flags(line)
    words = arguments.exec_form(line.arguments)
    if words is None:
        raise ValueError("SHELL requires the arguments to be in JSON form")
    if not words:
        raise ValueError("SHELL requires at least one argument")
    return instructions.Shell(source=line, words=words)


def _healthcheck(line: Line, _: str) -> Instruction:
    if not line.arguments:
        raise ValueError("HEALTHCHECK requires at least one argument")
    kind, *rest = line.arguments.split(maxsplit=1)
    kind, text = kind.upper(), rest[0] if rest else ""
    if kind == "NONE":
        if text:
            raise ValueError("HEALTHCHECK NONE takes no arguments")
        return instructions.Healthcheck(source=line, check=HealthConfig(test=["NONE"]))
    flags = _Flags(line, interval="", timeout="", start_period="", start_interval="", retries="")
    if kind != "CMD":
        raise ValueError(f"Unknown type {go_quoted(kind)} in HEALTHCHECK (try CMD)")
    command = _command(text)
    if not command.words:
        raise ValueError("Missing command after HEALTHCHECK CMD")
    check = HealthConfig(
        test=["CMD" if command.is_exec else "CMD-SHELL", *command.words],
        interval=_duration("interval", flags.text("interval")),
        timeout=_duration("timeout", flags.text("timeout")),
        start_period=_duration("start-period", flags.text("start-period")),
        start_interval=_duration("start-interval", flags.text("start-interval")),
        retries=_retries(flags.text("retries")),
    )
    return instructions.Healthcheck(source=line, check=check, is_shell=not command.is_exec)


def _duration(name: str, text: str) -> int:
    if not text:
        return 0
    parts = _DURATION_PART.findall(text) if len(text) < 64 and _DURATION.fullmatch(text) else []
    value = int(sum(float(number) * _NS[unit] for number, unit in parts)) * (-1 if text.startswith("-") else 1)
    if not parts and text not in ("0", "+0", "-0"):
        reason = "missing unit in" if re.fullmatch(r"[+-]?\d{1,18}(?:\.\d*)?", text, re.ASCII) else "invalid"
        raise ValueError(f"time: {reason} duration {go_quoted(text)}")
    if value >= _LONGEST_NS:
        raise ValueError(f"time: invalid duration {go_quoted(text)}")
    if value < _MINIMUM_NS and value != 0:
        raise ValueError(f'Interval "{name}" cannot be less than 1ms')
    return value


def _retries(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII):
        raise ValueError(f"strconv.ParseInt: parsing {go_quoted(text)}: invalid syntax")
    if int(text) < 1:
        raise ValueError(f"--retries must be at least 1 (not {int(text)})")
    return int(text)


def _expose(line: Line, _: str) -> Instruction:
    _Flags(line)
    ports = line.arguments.split()
    if not ports:
        raise ValueError("EXPOSE requires at least one argument")
    return instructions.Expose(source=line, ports=tuple(sorted(ports)))


def _user(line: Line, _: str) -> Instruction:
    return instructions.User(source=line, user=_one(line))


def _volume(line: Line, _: str) -> Instruction:
    _Flags(line)
    paths = tuple(path.strip() for path in _list(line.arguments))
    if not paths:
        raise ValueError("VOLUME requires at least one argument")
    if "" in paths:
        raise ValueError("VOLUME specified can not be an empty string")
    return instructions.Volume(source=line, paths=paths)


def _workdir(line: Line, _: str) -> Instruction:
    return instructions.Workdir(source=line, path=_one(line))


def _stop_signal(line: Line, _: str) -> Instruction:
    return instructions.StopSignal(source=line, signal=_one(line))


def _maintainer(line: Line, _: str) -> Instruction:
    return instructions.Maintainer(source=line, author=_one(line))


def _on_build(line: Line, _: str) -> Instruction:
    _Flags(line)
    if not line.arguments:
        raise ValueError("ONBUILD requires at least one argument")
    trigger = line.arguments.split(maxsplit=1)[0].upper()
    if trigger == "ONBUILD":
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise ValueError(f"{trigger} isn't allowed as an ONBUILD trigger")
    return instructions.OnBuild(source=line, trigger=text_only(line.arguments + _with_bodies(line.heredocs)))


def _with_bodies(heredocs: tuple[Heredoc, ...]) -> str:
    return "".join(f"\n{each.data}{each.name}" for each in heredocs)


_MAKERS: Mapping[str, Callable[[Line, str], Instruction]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _on_build,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
