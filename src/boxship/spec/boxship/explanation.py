"""GET /boxship/networks/explain: who reaches a port or a container, through which rule, and why not."""

from __future__ import annotations

import msgspec


class Reach(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Whether somebody reaches a place; ``reason`` names the rule that lets them or what keeps them away."""

    who: str
    reached: str  # yes, no, or depends: rules that are not ours decide
    reason: str


class Way(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A place where a container might be reached: a port of the host (``0.0.0.0:8080/tcp``), or an address of its own."""

    place: str
    container: str  # its name
    target: str  # where in the container it leads: address and port, or the network
    reach: list[Reach] = []
    hints: list[str] = []


class NetworkExplanation(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The answer; ``text`` says all of it for people."""

    text: str
    ways: list[Way] = []
    notes: list[str] = []
