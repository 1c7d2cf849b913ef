"""What a result depends on: the inputs of a vertex by name, and the key that stands for all of them (pure).

The key of a result holds what can change it and nothing else. Of the filesystem below it is the chain ID, so that a step that
ran again and gave the same files lets everything above it be found. Of COPY it is the content, types, modes, owners and
attributes of the files that are copied, not their times and not what else the context holds. Of the build it is what a program
can see (hosts, network, ulimits) and the time that no file is after; not its limits, secrets and agents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from boxship.build.graph import AnyOperation, Copy, MakeDirectory, Mount, Run, WriteFile

BASE = "base"  # the filesystem that the step begins with
FILES = "files"  # what COPY and ADD take

_SCHEME = 2  # counts up when keys are made in another way, so that no older record is taken for what it is not


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A result's key with the inputs that it was made of; ``subject`` stands for the instruction alone."""

    digest: str
    subject: str
    kind: str  # of the operation
    platform: str
    inputs: dict[str, str]
    files: dict[str, str] = {}  # digests of single files, for explanations


def key(
    operation: AnyOperation,
    base: str,
    platform: str,
    *,
    contents: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> Key:
    """Return the key of an operation that puts a layer on ``base``; ``contents`` are digests of what else it reads."""
    instruction = _instruction(operation)
    inputs = {BASE: base, **instruction, **(contents or {})}
    kind = type(operation).__name__
    return Key(
        digest=digest(kind, platform, inputs),
        subject=_digest([kind, platform, sorted(instruction.items())]),
        kind=kind,
        platform=platform,
        inputs=inputs,
        files=dict(files or {}),
    )


def digest(kind: str, platform: str, inputs: Mapping[str, str]) -> str:
    """Return the digest of a key with these inputs."""
    return _digest([_SCHEME, kind, platform, sorted(inputs.items())])


def _instruction(operation: AnyOperation) -> dict[str, str]:
    match operation:
        case Run():
            uncounted = set(operation.uncounted_env)
            return {
                "command": _digest(operation.args),
                "environment": _digest([entry for entry in operation.env if entry.partition("=")[0] not in uncounted]),
                "directory": operation.cwd,
                "user": operation.user,
                "mounts": _digest([_counted(mount) for mount in operation.mounts]),
                "network": operation.network,
                "security": operation.security,
                "devices": _digest(operation.devices),
            }
        case Copy():
            options = msgspec.to_builtins(operation)
            sources = options.pop("sources")
            return {"options": _digest(options), "sources": _digest(sources)}
        case WriteFile() | MakeDirectory():
            return {"options": _digest(operation)}
    return {"options": _digest(operation)}


def _counted(mount: Mount) -> object:
    """Return what of a mount counts: not its input, whose content counts by itself."""
    return msgspec.structs.replace(mount, input=0 if mount.input >= 0 else -1)


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
