"""The main context and the Dockerfile in it: sent by the client, or fetched from a repository or URL by the engine.

A remote that is no repository is a tarball or, if its bytes are no archive, a Dockerfile alone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import NamedTuple

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.base.whole import in_thread
from boxship.build import sources
from boxship.build.files import Archive, Kind, Tree
from boxship.build.files.node import clean
from boxship.build.graph import Git
from boxship.build.steps.scratch import Scratch
from boxship.images.streams import Pieces
from boxship.images.transfers import feed
from boxship.snapshots.compression import InvalidCompression
from boxship.snapshots.tar_reader import InvalidTar
from boxship.spec.docker.build import BuildOptions
from boxship.spec.docker.ignorefile import Patterns

IGNORE = ".dockerignore"
ALIAS = ".dockerfile."  # how clients call a Dockerfile that is not in the context; random letters follow
DOCKERFILE_LIMIT = 4 * 1024 * 1024  # bytes

_GIT = re.compile(r"(?:git://|git@|github\.com/|https?://.*\.git(?:#.*)?$)")


class Dockerfile(NamedTuple):
    """The text that is built, what messages call it, and the context's ``.dockerignore`` for the linter."""

    name: str
    text: bytes
    ignored: Patterns | None = None


@contextlib.asynccontextmanager
async def open_context(
    options: BuildOptions, body: AsyncIterator[bytes], scratch: Scratch
) -> AsyncIterator[tuple[Tree, Dockerfile]]:
    """Give the files of the context and the Dockerfile for the time of the ``async with``.

    Raises InvalidInput, InvalidTar, SystemFailure and what ``body`` raises.
    """
    async with contextlib.AsyncExitStack() as stack:
        files: Tree
        if is_git(options.remote):
            async for _ in body:
                pass  # empty: the client may keep the connection
            files = await stack.enter_async_context(
                sources.checkout(git(options.remote), scratch, options.ssh.get("default", ""))
            )
        else:
            archive = Archive(scratch.space())
            stack.callback(archive.close)
            if options.remote:
                found = await _from_url(options.remote, archive, scratch)
                if found is not None:
                    yield archive, Dockerfile("Dockerfile", found)
                    return
            else:
                async for _ in feed.run(lambda source, _: archive.fill(source), body):
                    pass
            files = archive
        dockerfile = await in_thread(lambda: _read(files, options.dockerfile or "Dockerfile"))
        if isinstance(files, Archive):
            dockerfile = dockerfile._replace(ignored=_hide(files, dockerfile.name))
            if dockerfile.name.startswith(ALIAS):
                files.remove(dockerfile.name)  # its name is another one each time
        yield files, dockerfile


def named(options: BuildOptions, files: Tree) -> dict[str, Tree]:
    """Take the files of further contexts out of the one that brought them; return them by name. Raises InvalidInput."""
    found: dict[str, Tree] = {}
    for name, value in options.build_contexts.items():
        scheme, has_scheme, _ = value.partition("://")
        if has_scheme and scheme != "docker-image":
            raise InvalidInput(f"unsupported context source {scheme} for {name}")
        if not has_scheme:
            try:
                if not isinstance(files, Archive) or not clean(value):
                    raise FileNotFoundError(value)
                found[name] = files.detach(clean(value))
            except OSError as exc:
                raise InvalidInput(f"the files of the context {name} did not come with the build") from exc
    return found


def is_git(remote: str) -> bool:
    """Return whether a remote is a repository, as Docker tells it."""
    return _GIT.match(remote) is not None


def git(remote: str) -> Git:
    """Return what ``repository#ref:directory`` names."""
    url, _, fragment = remote.partition("#")
    ref, _, directory = fragment.partition(":")
    return Git(url=f"https://{url}" if url.startswith("github.com/") else url, ref=ref, directory=directory)


async def _from_url(url: str, archive: Archive, scratch: Scratch) -> bytes | None:
    """Fill the archive with a tarball; return the bytes if they are a Dockerfile instead."""
    body = Archive(scratch.space())
    try:
        await sources.read_url(url, body, "body")
        return await in_thread(lambda: _unpack(body, archive))
    finally:
        body.close()


def _unpack(body: Archive, archive: Archive) -> bytes | None:
    node = body.node("body")
    pieces = body.data("body", node)
    try:
        archive.fill(Pieces(pieces))
    except (InvalidTar, InvalidCompression):
        if node.size > DOCKERFILE_LIMIT:
            raise
        return b"".join(body.data("body", node))
    return None


def _read(files: Tree, name: str) -> Dockerfile:
    path = clean(name)
    missing = f"Cannot locate specified Dockerfile: {name}"
    try:
        resolved = files.resolve(path)
        node = files.node(resolved)
    except OSError as exc:
        raise SystemFailure(missing) from exc
    if node.kind is not Kind.FILE:
        raise SystemFailure(missing)
    if node.size > DOCKERFILE_LIMIT:
        raise InvalidInput(f"the Dockerfile ({name}) is larger than {DOCKERFILE_LIMIT} bytes")
    if node.size == 0:
        raise InvalidInput(f"the Dockerfile ({name}) cannot be empty")
    return Dockerfile(path, b"".join(files.data(resolved, node)))


def _hide(files: Archive, dockerfile: str) -> Patterns | None:
    """Take the Dockerfile and .dockerignore out of the context if that says so: clients send them in any case.

    Return what it says.
    """
    try:
        node = files.node(IGNORE)
    except OSError:
        return None
    if node.kind is not Kind.FILE or node.size > DOCKERFILE_LIMIT:
        return None
    patterns = Patterns.parse(b"".join(files.data(IGNORE, node)))
    for path in (IGNORE, dockerfile):
        if patterns.matches(path):
            files.remove(path)
    return patterns
