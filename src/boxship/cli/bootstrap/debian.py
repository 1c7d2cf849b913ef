"""A Debian or Ubuntu root filesystem as a tar stream, from the distribution's own package archive.

``mmdebstrap`` does it best (a tar on its standard output, nothing left on disk); ``debootstrap`` is the second choice. The
result is what an image wants: no package lists and caches, no logs, no host name, no service that starts while packages are
installed. Standard library only.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import threading

from boxship.cli.bootstrap import apt
from boxship.cli.bootstrap.apt import ARCHIVES, Archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

VARIANTS = ("apt", "buildd", "essential", "important", "minbase", "required", "standard")
PIECE = 1 << 18
_SUITE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?")
_DOCUMENTATION = ("doc", "info", "lintian", "linda", "locale", "man")  # of /usr/share: what "-slim" leaves out
_KEPT_ERRORS = 40  # lines

# Written into the image: package installs in a container should stay small and must not start services.
_APT_CONF = (
    'Acquire::Languages "none";',
    'Acquire::GzipIndexes "true";',
    'APT::AutoRemove::SuggestsImportant "false";',
    'APT::Keep-Downloaded-Packages "false";',
    'Dir::Cache::pkgcache "";',
    'Dir::Cache::srcpkgcache "";',
)
_POLICY = "#!/bin/sh\n# No services are started while packages are installed in a container.\nexit 101\n"
_VOLATILE = (
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/hostname",
    "etc/resolv.conf",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/ldconfig/aux-cache",
    "var/log/alternatives.log",
    "var/log/apt",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
)


class BootstrapError(Exception):
    """The bootstrap can't be done; the text says why and what to do."""


def split_tag(archive: Archive, tag: str) -> tuple[str, bool]:
    """Return the suite of an image's tag, and whether it is the "-slim" one without documentation.

    Raises BootstrapError.
    """
    slim = tag.endswith("-slim")
    name = tag.removesuffix("-slim") or "latest"
    suite = archive.codenames.get(name, name)
    if not _SUITE.fullmatch(suite):
        raise BootstrapError(f"'{tag}' is no suite of {archive.name}")
    return suite, slim


def bootstrap_debian(
    distribution: str,
    tag: str,
    *,
    variant: str = "minbase",
    include: Sequence[str] = (),
    mirror: str = "",
    log: Callable[[str], None],
) -> Iterator[bytes]:
    """Yield the tar of a root filesystem; ``log`` takes the tool's lines. ``distribution`` is a key of ARCHIVES.

    Raises BootstrapError before the first piece for what can be known then, and at the end when the tool failed:
    the stream is whole only when the iterator ends without an error.
    """
    archive = ARCHIVES[distribution]
    suite, slim = split_tag(archive, tag)
    if variant not in VARIANTS:
        raise BootstrapError(f"unknown variant '{variant}': it is one of {', '.join(VARIANTS)}")
    for package in include:
        if not _PACKAGE.fullmatch(package):
            raise BootstrapError(f"'{package}' is no package name")
    if not os.path.exists(archive.keyring):
        raise BootstrapError(
            f"{archive.keyring} is missing, so packages of {archive.name} can't be verified; "
            f"install it first: apt-get install {archive.keyring_package}"
        )
    lines = apt.sources(archive, suite, mirror, apt.host_sources())
    if shutil.which("mmdebstrap"):
        yield from _mmdebstrap(archive, suite, lines, variant=variant, include=include, slim=slim, log=log)
    elif shutil.which("debootstrap"):
        yield from _debootstrap(archive, suite, lines, variant=variant, include=include, slim=slim, log=log)
    else:
        raise BootstrapError(
            "neither mmdebstrap nor debootstrap is installed; install one first: apt-get install mmdebstrap"
        )


# mmdebstrap


def _mmdebstrap(
    archive: Archive,
    suite: str,
    lines: Sequence[str],
    *,
    variant: str,
    include: Sequence[str],
    slim: bool,
    log: Callable[[str], None],
) -> Iterator[bytes]:
    command = ["mmdebstrap", f"--variant={variant}", "--format=tar", f"--keyring={archive.keyring}"]
    command += ["--skip=chroot/policy-rc.d", f"--extract-hook={_policy_script()}"]
    command.append(f"--customize-hook={_finishing_script()}")
    if include:
        command.append(f"--include={','.join(include)}")
    if slim:
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _DOCUMENTATION]
        command.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
    with tempfile.TemporaryDirectory(prefix="boxship-bootstrap-") as directory:
        command += _apt_options(directory)
        command += ["--", suite, "-", *lines]
        yield from _piped(command, os.environ, archive, suite, log)


def _apt_options(directory: str) -> list[str]:
    """Return the arguments that hand over this host's apt options.

    Root's may hold a proxy's password that others can't read: then they go through a file. Without root, mmdebstrap works
    in a user namespace that can't read the caller's files, but apt's options are readable for everybody then.
    """
    options = apt.host_options()
    if not options:
        return []
    if os.geteuid() != 0:
        return [f"--aptopt={line}" for line in options.splitlines()]
    path = os.path.join(directory, "options")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(options)
    return [f"--aptopt={path}"]


def _finishing_script() -> str:
    """Return the shell command, in one line, that mmdebstrap runs on the finished tree, which is its first argument."""
    removed = " ".join(f'"$1/{path}"' for path in _VOLATILE)
    configuration = shlex.join(["printf", "%s\\n", *_APT_CONF])
    return f'set -e; rm -rf {removed}; {configuration} > "$1/etc/apt/apt.conf.d/90container"'


def _policy_script() -> str:
    """Return the command that puts the policy in place of mmdebstrap's own, which it would take away at the end."""
    policy = shlex.join(["printf", "%s\\n", *_POLICY.splitlines()])
    return f'set -e; {policy} > "$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"'


# debootstrap


def _debootstrap(
    archive: Archive,
    suite: str,
    lines: Sequence[str],
    *,
    variant: str,
    include: Sequence[str],
    slim: bool,
    log: Callable[[str], None],
) -> Iterator[bytes]:
    if os.geteuid() != 0:
        raise BootstrapError("debootstrap needs root; run this command as root, or install mmdebstrap")
    if variant not in ("buildd", "minbase"):
        raise BootstrapError(f"debootstrap has no variant '{variant}'; install mmdebstrap, or use minbase")
    environment = dict(os.environ)
    if proxy := apt.host_proxy():
        environment.setdefault("http_proxy", proxy)
    with tempfile.TemporaryDirectory(prefix="boxship-bootstrap-") as directory:
        root = os.path.join(directory, "root")
        command = ["debootstrap", f"--variant={variant}", f"--keyring={archive.keyring}"]
        command.append(f"--components={archive.components.replace(' ', ',')}")
        if include:
            command.append(f"--include={','.join(include)}")
        command += [suite, root, lines[0].split()[1]]
        for _ in _piped(command, environment, archive, suite, log, stdout_is_log=True):
            pass
        _finish(root, lines, slim=slim)
        read_end, write_end = os.pipe()
        writer = threading.Thread(target=_write_tar, args=(root, write_end), daemon=True)
        writer.start()
        try:
            while piece := os.read(read_end, PIECE):
                yield piece
        finally:
            os.close(read_end)
            writer.join()


def _finish(root: str, lines: Sequence[str], *, slim: bool) -> None:
    """Do to the tree what the finishing script and the options do for mmdebstrap."""
    for path in (*_VOLATILE, "var/cache/apt/archives", "var/lib/apt/lists"):
        full = os.path.join(root, path)
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full)
        elif os.path.lexists(full):
            os.unlink(full)
    for path in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        os.makedirs(os.path.join(root, path))
    if slim:
        for name in _DOCUMENTATION:
            shutil.rmtree(os.path.join(root, "usr/share", name), ignore_errors=True)
    for path, text, mode in (
        ("etc/apt/sources.list", "".join(f"{line}\n" for line in lines), 0o644),
        ("etc/apt/apt.conf.d/90container", "".join(f"{line}\n" for line in _APT_CONF), 0o644),
        ("usr/sbin/policy-rc.d", _POLICY, 0o755),
    ):
        full = os.path.join(root, path)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(full, mode)


def _write_tar(root: str, write_end: int) -> None:
    """Write the tree to a pipe: sorted, numeric owners, times not after SOURCE_DATE_EPOCH."""
    latest = int(os.environ.get("SOURCE_DATE_EPOCH", "0") or 0)

    def cleaned(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        top = member.name.split("/")
        if top[0] in ("dev", "proc", "sys", "run") and len(top) > 1:
            return None
        member.uname = member.gname = ""
        member.mtime = min(int(member.mtime), latest) if latest else int(member.mtime)
        return member

    try:
        with (
            open(write_end, "wb") as pipe,
            tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name in sorted(os.listdir(root)):
                tar.add(os.path.join(root, name), arcname=name, filter=cleaned)
    except BrokenPipeError:
        pass  # the reader has given up and says why


# running the tools


def _piped(
    command: Sequence[str],
    environment: Mapping[str, str],
    archive: Archive,
    suite: str,
    log: Callable[[str], None],
    *,
    stdout_is_log: bool = False,
) -> Iterator[bytes]:
    """Run a tool and yield its output; raise BootstrapError with its reason when it fails."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if stdout_is_log else subprocess.PIPE,
    )
    assert process.stdout is not None
    said: list[str] = []
    reader = None
    try:
        if stdout_is_log:
            _follow(process.stdout, said, log)
        else:
            reader = threading.Thread(target=_follow, args=(process.stderr, said, log), daemon=True)
            reader.start()
            while piece := os.read(process.stdout.fileno(), PIECE):
                yield piece
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        process.stdout.close()
        if reader is not None and process.stderr is not None:
            reader.join()
            process.stderr.close()
    if status != 0:
        raise BootstrapError(explain(said, archive, suite, command[0]))


def _follow(stream: Iterator[bytes], said: list[str], log: Callable[[str], None]) -> None:
    for line in stream:
        text = line.decode("utf-8", "replace").rstrip()
        said.append(text)
        del said[:-_KEPT_ERRORS]
        if "-hook in shell:" not in text:
            log(text)


def explain(said: Sequence[str], archive: Archive, suite: str, tool: str) -> str:
    """Return why a tool failed, in one sentence with a next step where its last lines tell (pure)."""
    text = "\n".join(said)
    lowered = text.lower()
    if re.search(
        r"temporary failure resolving|could not resolve|cannot initiate the connection|could not connect", lowered
    ):
        return f"the package archive of {archive.name} can't be reached; check the network, or name one with --mirror"
    if re.search(r"does not have a release file|404\s+not found|failed getting release file", lowered):
        return f"'{suite}' is no suite of that {archive.name} archive; look at the name, or name another with --mirror"
    if re.search(r"unable to locate package|has no installation candidate|couldn't find these debs", lowered):
        missing = re.search(r"unable to locate package (\S+)", lowered)
        return (
            f"{archive.name} {suite} has no package '{missing[1]}'"
            if missing
            else f"{suite} lacks a package of --include"
        )
    if re.search(r"no_pubkey|isn't signed|not signed|expkeysig|invalid signature|bad signature", lowered):
        return f"the archive's signature can't be verified with {archive.keyring}; update {archive.keyring_package}"
    if "no space left on device" in lowered:
        return f"no space left on device in {tempfile.gettempdir()}; set TMPDIR to a directory with more room"
    if re.search(r"operation not permitted|unshare|have to be root|needs? root|permission denied", lowered):
        return f"{tool} lacks the rights to make a root filesystem here; run this command as root"
    reason = next((line for line in reversed(said) if line.startswith("E:")), said[-1] if said else "no reason given")
    return f"{tool} failed: {reason}"
