"""What the history of an image says of each instruction: the classic builder's texts, word by word.

``plan.SUMMARY`` in a text stands for what COPY and ADD took, which is known when they have done it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from boxship.build.plan import SUMMARY
from boxship.spec.docker.container import ContainerConfig, HealthConfig
from boxship.spec.dockerfile import instructions
from boxship.spec.dockerfile.arguments import go_quoted
from boxship.spec.dockerfile.config import DEFAULT_SHELL
from boxship.spec.dockerfile.instructions import Instruction
from boxship.spec.dockerfile.words import Variables

_UNITS = ((3600 * 10**9, "h"), (60 * 10**9, "m"))


def of_setting(instruction: Instruction, after: ContainerConfig, variables: Variables) -> str:
    """Return the text of an instruction that only changes the configuration."""
    shell = " ".join(after.shell or DEFAULT_SHELL)
    # Two spaces stand there since the builder joins words, of which one ends in a space.
    return f"{shell} #(nop)  {_setting(instruction, after, variables)}"


def _setting(instruction: Instruction, after: ContainerConfig, variables: Variables) -> str:
    match instruction:
        case instructions.Cmd():
            return f"CMD {_quoted(after.cmd)}"
        case instructions.Entrypoint():
            return f"ENTRYPOINT {_quoted(after.entrypoint)}"
        case instructions.Env():
            return " ".join(["ENV", *_assigned(instruction.pairs, variables)])
        case instructions.Label():
            return " ".join(["LABEL", *_assigned(instruction.pairs, variables)])
        case instructions.Expose():
            return f"EXPOSE {' '.join(sorted(word for port in instruction.ports for word in variables.words(port)))}"
        case instructions.User():
            return f"USER {after.user}"
        case instructions.Volume():
            return f"VOLUME [{' '.join(map(variables.word, instruction.paths))}]"
        case instructions.StopSignal():
            return f"STOPSIGNAL {after.stop_signal}"
        case instructions.Shell():
            return f"SHELL [{' '.join(instruction.words)}]"
        case instructions.Healthcheck():
            return f"HEALTHCHECK {_health(instruction.check)}"
        case instructions.OnBuild():
            return f"ONBUILD {instruction.trigger}"
        case instructions.Maintainer():
            return f"MAINTAINER {instruction.author}"
        case instructions.Arg():
            return " ".join(["ARG", *_declared(instruction)])
    return instruction.source.text


def _assigned(pairs: Iterable[tuple[str, str]], variables: Variables) -> list[str]:
    return [f"{variables.word(key)}={variables.word(value)}" for key, value in pairs]


def _declared(instruction: instructions.Arg) -> list[str]:
    return [name if default is None else f"{name}={default}" for name, default in instruction.arguments]


def of_run(argv: Sequence[str], arguments: Mapping[str, str]) -> str:
    """Return the text of RUN: the build arguments that it saw, then the program's words."""
    seen = [f"{name}={value}" for name, value in sorted(arguments.items())]
    counted = [f"|{len(seen)}", *seen] if seen else []
    return " ".join([*counted, *argv])


def of_copy(instruction: instructions.Copy, config: ContainerConfig, target: str, chown: str) -> str:
    """Return the text of COPY and ADD; ``target`` and ``chown`` have their variables replaced."""
    owner = f"--chown={chown}" if chown else ""  # without a space behind it: so has Docker's
    return f"{_nop(config)}{instruction.source.keyword} {owner}{SUMMARY} in {target} "


def of_workdir(config: ContainerConfig) -> str:
    """Return the text of WORKDIR, whose path is the configuration's."""
    return f"{_nop(config)}WORKDIR {config.working_dir}"


def _nop(config: ContainerConfig) -> str:
    return f"{' '.join(config.shell or DEFAULT_SHELL)} #(nop) "


def _quoted(words: Sequence[str] | str | None) -> str:
    return f"[{' '.join(go_quoted(word) for word in words or ())}]"


def _health(check: HealthConfig) -> str:
    times = " ".join(f'"{_duration(each)}"' for each in (check.interval, check.timeout, check.start_period))
    # Go prints the number of retries as the character with that code.
    retries = chr(check.retries) if check.retries < 0x110000 else "\ufffd"
    return f"&{{{_quoted(check.test)} {times} {_character(retries)}}}"


def _character(character: str) -> str:
    if character == "\0":
        return "'\\x00'"
    if character == "'":
        return "'\\''"
    return f"'{go_quoted(character)[1:-1]}'"


def _duration(ns: int) -> str:
    """Return a duration as Go prints it: 1m30s, 1.5s, 500ms."""
    if ns == 0:
        return "0s"
    if ns < 10**9:
        return f"{ns / 10**6:.6f}".rstrip("0").rstrip(".") + "ms"
    text = ""
    for size, unit in _UNITS:
        if ns >= size or text:
            text += f"{ns // size}{unit}"
        ns %= size
    return text + f"{ns / 10**9:.9f}".rstrip("0").rstrip(".") + "s"
