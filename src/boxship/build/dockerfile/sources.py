"""Vertices that instructions read from: contexts, images, downloads, repositories, texts."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

from boxship.base.errors import InvalidInput
from boxship.build.dockerfile.options import Base, PlanOptions
from boxship.build.graph import Context, Download, Git, Graph, Image, Scratch, Vertex, WriteFile, vertex

_GIT = re.compile(r"(?:git|ssh)://|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:|https?://[^#?]*\.git(?:[#?]|\Z)", re.ASCII)
_DIGEST = re.compile(r"sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{7,64}", re.ASCII)


def is_git(source: str) -> bool:
    """Tell whether ADD reads a repository there."""
    return _GIT.match(source) is not None


def is_url(source: str) -> bool:
    """Tell whether ADD downloads a file there."""
    return source.startswith(("http://", "https://")) and not is_git(source)


class Inputs:
    """Makes vertices of the graph that have no inputs themselves."""

    def __init__(self, graph: Graph, options: PlanOptions) -> None:
        self._graph = graph
        self._options = options

    def context(self, name: str = "") -> Vertex:
        """Return the files of a build context."""
        shown = f"[context {name}] load from client" if name else "[internal] load build context"
        return self._graph.add(vertex(Context(name=name), name=shown))

    def image(self, reference: str, base: Base, name: str) -> Vertex:
        """Return the files of an image."""
        operation = Image(reference=reference, id=base.id, layers=base.layers)
        return self._graph.add(vertex(operation, name=name, platform=base.platform))

    def text(self, name: str, text: str) -> Vertex:
        """Return one executable file, for a heredoc with an interpreter of its own."""
        empty = self._graph.add(vertex(Scratch()))
        data = text.encode("utf-8", "surrogateescape")
        return self._graph.add(vertex(WriteFile(path=f"/{name}", data=data, chmod="0755"), [empty]))

    def download(self, url: str, target: str, checksum: str) -> tuple[Vertex, str]:
        """Return a download and the name its file has in it. Raises InvalidInput."""
        if checksum and not _DIGEST.fullmatch(checksum):
            raise InvalidInput(f"invalid checksum digest format: {checksum}")
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as exc:
            raise InvalidInput(f"invalid URL {url}: {exc}") from exc
        # The last step of the path, whatever is hidden in it: an escaped slash must not become one.
        name = unquote(posixpath.basename(parts.path))
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            if target.endswith("/"):
                raise InvalidInput(f"cannot determine filename from url: {url}")
            name = posixpath.basename(target)
        made = self._graph.add(vertex(Download(url=url, name=name, checksum=checksum), name=url))
        return made, name

    def git(self, url: str, *, keep_git_dir: bool, checksum: str) -> Vertex:
        """Return a checkout of ``url#ref:directory``. Raises InvalidInput."""
        address, _, fragment = url.partition("#")
        ref, _, directory = fragment.partition(":")
        if checksum and not _COMMIT.fullmatch(checksum):
            raise InvalidInput(f"invalid checksum {checksum!r} for Git source: a commit is expected")
        if ref.startswith("-") or any(character.isspace() or not character.isprintable() for character in fragment):
            raise InvalidInput(f"invalid Git reference {ref!r}")
        if ".." in directory.split("/"):
            raise InvalidInput(f"subdir not allowed to leave the repository: {directory}")
        directory = posixpath.normpath("/" + directory).strip("/")
        operation = Git(url=address, ref=ref, directory=directory, keep_git_dir=keep_git_dir, checksum=checksum)
        return self._graph.add(vertex(operation, name=url))
