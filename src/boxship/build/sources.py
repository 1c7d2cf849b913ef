"""Sources from elsewhere: files by URL and git repositories, for ADD and for whole contexts.

``git`` runs as a program: no protocol but http, https, git and ssh, no configuration of this host, no hooks, no prompts, no
word of the user's in the place of an option. What it fetched is read by descriptor as any other hostile tree. ``ssh`` has no key
and no configuration of this host either: only the agent that the build was given. A host that the system's list of hosts does not know is
believed at its first connection, as BuildKit does.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shlex
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from boxship.base.errors import InvalidInput, NotSupported, SystemFailure
from boxship.base.whole import in_thread
from boxship.build.files import Archive, Directory
from boxship.build.files.node import clean
from boxship.build.graph import Download, Git
from boxship.build.steps.scratch import Scratch
from boxship.images.transfers import feed
from boxship.linux import fs
from boxship.snapshots import tree

CHUNK = 256 * 1024
_REF = re.compile(r"[A-Za-z0-9_./@+][A-Za-z0-9_./@+-]*", re.ASCII)
_GIT_URL = re.compile(r"(?:https?|git|ssh)://[^\s\0-]\S*|[A-Za-z0-9_.]+@[A-Za-z0-9][A-Za-z0-9_.-]*:\S+", re.ASCII)
_GIT = (
    "-c", "protocol.allow=never",
    "-c", "protocol.http.allow=always",
    "-c", "protocol.https.allow=always",
    "-c", "protocol.git.allow=always",
    "-c", "protocol.ssh.allow=always",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.symlinks=true",
    "-c", "credential.helper=",
)  # fmt: skip
_SSH = ("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentityFile=none", "-o", "StrictHostKeyChecking=accept-new")


class Checkout(Directory):
    """The files of a repository at the ``commit`` with this hash."""

    def __init__(self, root_fd: int, commit: str) -> None:
        super().__init__(root_fd)
        self.commit = commit


def fetch(source: Download | Git, scratch: Scratch, agent: str = "") -> AbstractAsyncContextManager[Archive | Checkout]:
    """Give the files of a source for the time of the ``async with``; ``agent`` is the socket of one for ssh.

    Raises SystemFailure, InvalidInput, NotSupported.
    """
    return download(source, scratch) if isinstance(source, Download) else checkout(source, scratch, agent)


@contextlib.asynccontextmanager
async def download(source: Download, scratch: Scratch) -> AsyncIterator[Archive]:
    """Give a tree of one file, 0600, with the time that the server says."""
    archive = Archive(scratch.space())
    try:
        await read_url(source.url, archive, source.name, source.checksum)
        yield archive
    finally:
        archive.close()


async def read_url(url: str, archive: Archive, name: str, checksum: str = "") -> str:
    """Put the body of a URL into an archive; return its content type. Raises SystemFailure, InvalidInput."""
    import aiohttp  # costs 150 ms; only this needs a client

    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidInput(f'Get "{url}": unsupported protocol scheme "{urlsplit(url).scheme}"')
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=120)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False, trust_env=True) as session,
            session.get(url) as response,
        ):
            if response.status >= 400:
                raise SystemFailure(f"failed to GET {url} with status {response.status} {response.reason}: ")
            modified_ns = _time_ns(response.headers.get("Last-Modified", ""))

            def store(body: feed.Feed, _: feed.Report) -> None:
                pieces = iter(lambda: body.read(CHUNK), b"")
                node = archive.put(f"/{name}", pieces, mode=0o600, mtime_ns=modified_ns)
                if checksum and checksum != f"sha256:{node.digest.hex()}":
                    raise InvalidInput(f"digest mismatch sha256:{node.digest.hex()}: {checksum}")

            async for _ in feed.run(store, response.content.iter_chunked(CHUNK)):
                pass
            return response.content_type
    except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
        raise SystemFailure(f'Get "{url}": {exc or "timeout"}') from exc


def _time_ns(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (ValueError, TypeError):
        return 0


@contextlib.asynccontextmanager
async def checkout(source: Git, scratch: Scratch, agent: str = "") -> AsyncIterator[Checkout]:
    """Give the files of a repository at a branch, tag or commit; ``agent`` is the socket of one for ssh."""
    place = scratch.place()
    try:
        await in_thread(lambda: os.mkdir(place, 0o700))
        commit = await _clone(source, place, agent)
        with contextlib.ExitStack() as stack:
            root_fd = tree.open_root(os.path.join(place, "checkout"))
            stack.callback(os.close, root_fd)
            if not source.keep_git_dir:
                await in_thread(lambda: tree.remove(root_fd, ".git"))
            if source.directory:
                root_fd = _inside(root_fd, source.directory)
                stack.callback(os.close, root_fd)
            yield Checkout(root_fd, commit)
    finally:
        await asyncio.shield(asyncio.to_thread(scratch.remove, place))


def _inside(root_fd: int, directory: str) -> int:
    try:
        return fs.openat2(
            root_fd,
            clean(directory),
            os.O_RDONLY | os.O_DIRECTORY,
            resolve=fs.RESOLVE_BENEATH | fs.RESOLVE_NO_MAGICLINKS,
        )
    except OSError as exc:
        raise InvalidInput(f"error setting target path: {directory}: {os.strerror(exc.errno or 0).lower()}") from exc


async def _clone(source: Git, place: str, agent: str) -> str:
    """Check the repository out below ``place``; return the commit."""
    if not _GIT_URL.fullmatch(source.url):
        raise InvalidInput(f"invalid git URL {source.url!r}")
    if source.ref and not _REF.fullmatch(source.ref):
        raise InvalidInput(f"invalid git reference {source.ref!r}")
    if ".." in source.directory.split("/"):
        raise InvalidInput(f"invalid git directory {source.directory!r}")
    target = os.path.join(place, "checkout")
    git = functools.partial(_run_git, place, agent)
    await git("init", "--quiet", "--template=", "--", target)
    await git("-C", target, "remote", "add", "--", "origin", source.url)
    wanted = source.ref or "HEAD"
    try:
        await git("-C", target, "fetch", "--quiet", "--depth=1", "origin", "--", wanted)
        commit = "FETCH_HEAD"
    except SystemFailure:  # a server that gives no single commits
        await git("-C", target, "fetch", "--quiet", "--tags", "origin")
        commit = wanted if re.fullmatch("[0-9a-f]{7,64}", wanted) else f"origin/{wanted}"
    await git("-C", target, "checkout", "--quiet", "--detach", commit, "--")
    found = (await git("-C", target, "rev-parse", "HEAD")).strip()
    if not found.startswith(source.checksum):
        raise InvalidInput(f"expected checksum to match {source.checksum}, got {found}")
    submodules = ("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    if os.path.isfile(os.path.join(target, ".gitmodules")):
        await git("-C", target, *submodules)
    return found


async def _run_git(place: str, agent: str, *words: str) -> str:
    program = shutil.which("git")
    if program is None:
        raise NotSupported("git repositories need the program git on the daemon's host")
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": place,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_SSH_COMMAND": " ".join((*_SSH, "-o", shlex.quote(f"UserKnownHostsFile={place}/known_hosts"))),
        **({"SSH_AUTH_SOCK": agent} if agent else {}),
        **{name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ},
    }
    process = await asyncio.create_subprocess_exec(
        program,
        *_GIT,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd=place,
        umask=0o022,
    )
    try:
        out, err = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise SystemFailure(f"error fetching: {err.decode(errors='replace').strip()[-1000:]}")
    return out.decode(errors="replace")
