"""What vertices give, and how a build fails."""

from __future__ import annotations

import msgspec

from boxship.base.errors import InvalidInput


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A filesystem: layers of the image store, and when the topmost came to be."""

    layers: tuple[str, ...] = ()  # chain IDs, bottom first
    added: bool = False  # whether the vertex put a layer on top of those of its first input
    created_ns: int = 0  # nanoseconds since 1970
    size: int = 0  # bytes of the files in the layer that was added
    summary: str = ""  # what COPY and ADD took, as history names it: "file:<digest>"
    cached: bool = False

    @property
    def top(self) -> str:
        """The chain ID of the filesystem, "" for an empty one."""
        return self.layers[-1] if self.layers else ""


class BuildFailed(InvalidInput):
    """A step failed; ``code`` is the exit code of its program, 0 when none ran."""

    def __init__(self, message: str, code: int = 0, vertex: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.vertex = vertex
