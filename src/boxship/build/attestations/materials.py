"""What a build was made of: base images, contexts, downloads, repositories, each with a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from boxship.build.attestations.provenance import Material, docker_purl, without_password
from boxship.build.context import Dockerfile
from boxship.build.files import Kind, Tree
from boxship.build.graph import Context, Download, Git, Image, Vertex
from boxship.build.sources import Checkout
from boxship.images import model


def of_vertices(
    vertices: Iterable[Vertex], fetched: Mapping[str, str], bases: Mapping[str, model.Image]
) -> list[Material]:
    """Return what the graph fetches. ``fetched`` are digests by vertex, ``bases`` images by id."""
    found = []
    for each in vertices:
        match each.operation:
            case Image() as image:
                found.append(Material(docker_purl(image.reference, each.platform), _image_digest(image, bases)))
            case Download() as download if each.id in fetched:
                found.append(Material(without_password(download.url), fetched[each.id]))
            case Git() as git if each.id in fetched:
                fragment = f"#{git.ref}" if git.ref else ""
                found.append(Material(f"{without_password(git.url)}{fragment}", fetched[each.id]))
    return found


def of_source(tree: Tree) -> str:
    """Return what tells a download or a checkout from any other: the digest of its file, its commit. Blocks."""
    if isinstance(tree, Checkout):
        return commit_digest(tree.commit)
    (name,) = tree.names("")
    return f"sha256:{tree.digest(name, tree.node(name)).hex()}"


def commit_digest(commit: str) -> str:
    """Return the hash of a commit with its algorithm."""
    return f"{'sha1' if len(commit) == 40 else 'sha256'}:{commit}"


def of_remote(remote: str, tree: Tree) -> list[Material]:
    """Return the repository that the main context is of, if it is."""
    if not isinstance(tree, Checkout):
        return []
    return [Material(without_password(remote), commit_digest(tree.commit))]


def of_contexts(vertices: Iterable[Vertex], contexts: Mapping[str, Tree], dockerfile: Dockerfile) -> list[Material]:
    """Return the contexts that the client sent and the graph reads, and the Dockerfile. Blocks, may read all of them."""
    read = {each.operation.name for each in vertices if isinstance(each.operation, Context)}
    found = [Material("local:dockerfile", f"sha256:{hashlib.sha256(dockerfile.text).hexdigest()}")]
    for name in sorted(read & contexts.keys()):
        tree = contexts[name]
        if isinstance(tree, Checkout):
            continue  # its commit says it
        skipped = () if name else (dockerfile.name,)
        found.append(Material(f"local:{name or 'context'}", digest(tree, skipped)))
    return found


def digest(tree: Tree, skipped: Iterable[str] = ()) -> str:
    """Return a digest of all files of a tree but ``skipped``: paths, types, modes, links, contents; no times and owners."""
    hash = hashlib.sha256()
    leave = set(skipped)
    for path, node in tree.walk(""):
        if path in leave:
            continue
        content = tree.digest(path, node).hex() if node.kind is Kind.FILE else ""
        row = [
            path.encode("utf-8", "surrogateescape"),
            node.kind,
            node.mode,
            node.link.encode("utf-8", "surrogateescape"),
        ]
        hash.update(msgspec.json.encode([*row, content]) + b"\n")
    return f"sha256:{hash.hexdigest()}"


def _image_digest(image: Image, bases: Mapping[str, model.Image]) -> str:
    """Return the digest of the manifest that the image came with, its id when it was made here."""
    base = bases.get(image.id)
    for name in base.digests if base is not None else ():
        return name.rpartition("@")[2]
    return image.id
