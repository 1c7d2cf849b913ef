"""COPY and ADD as operations of the graph."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from boxship.base.errors import InvalidInput
from boxship.build.dockerfile.options import PlanOptions
from boxship.build.dockerfile.sources import Inputs, is_git, is_url
from boxship.build.graph import AnyOperation, Copy, Vertex, WriteFile
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.dockerfile import config as effects
from boxship.spec.dockerfile import instructions
from boxship.spec.dockerfile.words import Variables

_IMAGE = "docker-image://"


def context_image(options: PlanOptions, name: str) -> str | None:
    """Return the image that a name stands for: that of a named context if there is one; None when the context is files."""
    given = options.contexts.get(name)
    if given is None:
        return name
    return given.removeprefix(_IMAGE) if given.startswith(_IMAGE) else None


class Copying:
    """One COPY or ADD with its variables replaced. Raises InvalidInput."""

    def __init__(self, instruction: instructions.Copy, config: ContainerConfig, variables: Variables) -> None:
        self._instruction = instruction
        self._sources = [variables.word(source) for source in instruction.sources]
        self._texts = [
            (file.name, variables.text(file.text) if file.expand else file.text) for file in instruction.files
        ]
        self.written_target = variables.word(instruction.target)
        self.chown = variables.word(instruction.chown)
        self._chmod = variables.word(instruction.chmod)
        self._exclude = tuple(variables.word(pattern) for pattern in instruction.exclude)
        self._checksum = variables.word(instruction.checksum)
        self._target = _target(config, self.written_target)
        self._check()

    def _check(self) -> None:
        keyword = self._instruction.source.keyword
        count = len(self._sources) + len(self._texts)
        if count > 1 and not self._target.endswith("/"):
            raise InvalidInput(
                f"When using {keyword} with more than one source file, the destination must be a directory and end with a /"
            )
        remote = [source for source in self._sources if self._instruction.add and (is_git(source) or is_url(source))]
        if self._checksum and count > 1:
            raise InvalidInput("checksum can't be specified for multiple sources")
        if self._checksum and not remote:
            raise InvalidInput("checksum can't be specified for non-HTTP(S) & non-Git sources")
        if not self._instruction.add and any(is_url(source) for source in self._sources):
            raise InvalidInput("source can't be a URL for COPY")

    def operations(self, inputs: Inputs, origin: Vertex | None) -> Iterator[tuple[AnyOperation, list[Vertex]]]:
        """Yield the operations, each on the result of the one before, with what else each reads."""
        local: list[str] = []
        for source in self._sources:
            if self._instruction.add and is_git(source):
                made = inputs.git(source, keep_git_dir=self._instruction.keep_git_dir, checksum=self._checksum)
                yield self._copy(["/"], unpack=False), [made]
            elif self._instruction.add and is_url(source):
                made, name = inputs.download(source, self._target, self._checksum)
                yield self._copy([f"/{_literal(name)}"], unpack=self._instruction.unpack is True), [made]
            else:
                local.append(self._path(source, is_context=origin is None))
        if local:
            unpack = self._instruction.add and self._instruction.unpack is not False
            yield self._copy(local, unpack=unpack), [origin or inputs.context()]
        for name, text in self._texts:
            path = posixpath.join(self._target, name.lstrip("/")) if self._target.endswith("/") else self._target
            data = text.encode("utf-8", "surrogateescape")
            clean = "/" + posixpath.normpath(path).lstrip("/")
            yield WriteFile(path=clean, data=data, chown=self.chown, chmod=self._chmod), []

    def _copy(self, sources: list[str], *, unpack: bool) -> Copy:
        return Copy(
            sources=tuple(sources),
            target=self._target,
            chown=self.chown,
            chmod=self._chmod,
            unpack=unpack,
            link=self._instruction.link,
            parents=self._instruction.parents,
            exclude=self._exclude,
        )

    def _path(self, source: str, *, is_context: bool) -> str:
        """Return a source's path from the root of its files."""
        if is_context and posixpath.normpath(source.lstrip("/") or ".").split("/")[0] == "..":
            keyword = self._instruction.source.keyword
            raise InvalidInput(f"{keyword} failed: forbidden path outside the build context: {source} ()")
        if self._instruction.parents and "/./" in source:
            kept, _, below = source.partition("/./")
            return f"{clean(kept).rstrip('/')}/./{clean(below).lstrip('/')}"
        return clean(source)


def clean(path: str) -> str:
    """Return a path from the root, as short as can be; it never leads out of it."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def _literal(name: str) -> str:
    """Return the pattern that matches just this name."""
    return "".join(f"\\{character}" if character in "*?[\\" else character for character in name)


def _target(config: ContainerConfig, written: str) -> str:
    path = effects.absolute(config, written)
    is_directory = written.endswith(("/", "/.", "/..")) or written in ("", ".", "..")
    return path.rstrip("/") + "/" if is_directory else path
