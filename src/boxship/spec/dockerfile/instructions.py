"""The instructions of a Dockerfile, typed. Values are as written: variables are replaced when a build is planned."""

from __future__ import annotations

import msgspec

from boxship.spec.docker.container import HealthConfig
from boxship.spec.dockerfile.lines import Heredoc, Line


class Command(msgspec.Struct, frozen=True):
    """A program: ``words`` in exec form, one text for the shell otherwise."""

    words: tuple[str, ...]
    is_exec: bool


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """What all instructions have: where they stand."""

    source: Line


class From(Instruction, frozen=True, kw_only=True):
    base: str
    name: str = ""  # lower case
    platform: str = ""


class Run(Instruction, frozen=True, kw_only=True):
    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[str, ...] = ()  # see ``mounts``
    network: str = ""
    security: str = ""
    devices: tuple[str, ...] = ()


class Copy(Instruction, frozen=True, kw_only=True):
    """COPY, and ADD with ``add``."""

    sources: tuple[str, ...]
    files: tuple[Heredoc, ...]
    target: str
    add: bool = False
    origin: str = ""  # --from
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None


class Arg(Instruction, frozen=True, kw_only=True):
    arguments: tuple[tuple[str, str | None], ...]  # name, default


class Env(Instruction, frozen=True, kw_only=True):
    pairs: tuple[tuple[str, str], ...]
    legacy: bool


class Label(Instruction, frozen=True, kw_only=True):
    pairs: tuple[tuple[str, str], ...]
    legacy: bool


class Cmd(Instruction, frozen=True, kw_only=True):
    command: Command


class Entrypoint(Instruction, frozen=True, kw_only=True):
    command: Command


class Shell(Instruction, frozen=True, kw_only=True):
    words: tuple[str, ...]


class Healthcheck(Instruction, frozen=True, kw_only=True):
    check: HealthConfig
    is_shell: bool = False


class Expose(Instruction, frozen=True, kw_only=True):
    ports: tuple[str, ...]


class User(Instruction, frozen=True, kw_only=True):
    user: str


class Volume(Instruction, frozen=True, kw_only=True):
    paths: tuple[str, ...]


class Workdir(Instruction, frozen=True, kw_only=True):
    path: str


class StopSignal(Instruction, frozen=True, kw_only=True):
    signal: str


class Maintainer(Instruction, frozen=True, kw_only=True):
    author: str


class OnBuild(Instruction, frozen=True, kw_only=True):
    trigger: str  # an instruction, with its heredocs


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A Dockerfile, understood."""

    name: str
    lines: list[str]
    escape: str
    syntax: str
    check: str
    empty_continuations: tuple[int, ...]
    instructions: tuple[Instruction, ...]
