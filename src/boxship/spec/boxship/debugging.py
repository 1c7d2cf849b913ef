"""POST /boxship/debug: a process with tools beside a container, or on what a stopped container or an image holds."""

from __future__ import annotations

import msgspec

from boxship.spec.docker.container import ExecConfig


class DebugRequest(ExecConfig, frozen=True, kw_only=True, rename="pascal"):
    """An exec's configuration and whom it is for; without ``Cmd`` it is a shell."""

    target: str = ""  # a container, else an image
    image: str = ""  # where the tools come from; empty is the built-in toolbox


class DebugCreated(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The answer; ``id`` is started, resized and inspected as an exec."""

    id: str
    kind: str  # running, stopped, image
    container: str  # where the process will run: the target itself, or a throw-away container
