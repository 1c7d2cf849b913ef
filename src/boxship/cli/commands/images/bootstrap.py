"""``image bootstrap``: a base image from the distribution's own package archive, for hosts without a registry.

The work is done here, on the client's side; the engine only imports the tar stream.
"""

from __future__ import annotations

from boxship.cli.bootstrap.apt import ARCHIVES
from boxship.cli.bootstrap.busybox import bootstrap_busybox
from boxship.cli.bootstrap.debian import VARIANTS, BootstrapError, bootstrap_debian, split_tag
from boxship.cli.bootstrap.registry import CHANGES as REGISTRY_CHANGES
from boxship.cli.bootstrap.registry import bootstrap_registry
from boxship.cli.command import Command, ExitError
from boxship.cli.flags import Flag
from boxship.cli.reference import parse
from boxship.client.engine import quote
from boxship.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

FLAGS = (
    Flag("include", "list", "Install these packages too (comma-separated)"),
    Flag("mirror", "string", "URL of the package archive (default: that of this host's apt, else the public one)"),
    Flag("quiet", "bool", "Print the image's id only", short="q"),
    Flag("tag", "string", "Name of the image (default: as the argument)", short="t"),
    Flag("variant", "string", f"Package set: {', '.join(VARIANTS)}", default="minbase", shown='(default "minbase")'),
)


def run(session: Session, values: Values) -> int:
    """Make the root filesystem, import it as it comes, print the image's id."""
    distribution, _, tag = values.arguments[0].partition(":")
    tag = tag or "latest"
    name = values.text("tag") or f"{distribution}:{tag}"
    try:
        reference = parse(name).tagged()
    except ValueError as exc:
        raise ExitError(f"invalid argument {name!r} for --tag: {exc}") from exc
    failed: list[str] = []
    body = _told(_stream(session, values, distribution, tag), failed)
    query = {"fromSrc": "-", "repo": reference.familiar_name, "tag": reference.tag}
    source = "this installation" if distribution == "registry" else f"the package archive of {distribution}"
    query["message"] = f"Bootstrapped from {source}"
    pairs = [f"{key}={quote(value)}" for key, value in query.items()]
    pairs += [f"changes={quote(change)}" for change in _changes(distribution, tag)]
    target = "/images/create?" + "&".join(pairs)
    try:
        first = next(body, b"")
        reader = session.engine.stream(
            "POST", target, body=_rest(first, body), headers={"Content-Type": "application/x-tar"}
        )
        id = ""
        for message in session.engine.messages(reader):
            if message.get("error"):
                raise ExitError(str(message["error"]))
            id = str(message.get("status") or id)
    except BootstrapError as exc:
        raise ExitError(f"Error: {exc}") from exc
    except ClientError as exc:
        raise ExitError(f"Error: {failed[0]}") if failed else exc from exc
    if not values.is_set("quiet"):
        session.error(f"Bootstrapped {reference.familiar}")
    session.line(id)
    return 0


def _stream(session: Session, values: Values, distribution: str, tag: str) -> Iterator[bytes]:
    def log(line: str) -> None:
        if not values.is_set("quiet"):
            session.error(line)

    if distribution == "busybox":
        return bootstrap_busybox(log)
    if distribution == "registry":
        return bootstrap_registry(log)
    if distribution not in ARCHIVES:
        known = ", ".join([*ARCHIVES, "busybox", "registry"])
        raise ExitError(f"Error: no package archive is known for '{distribution}' (known: {known})")
    try:
        split_tag(ARCHIVES[distribution], tag)
    except BootstrapError as exc:
        raise ExitError(f"Error: {exc}") from exc
    include = [package for given in values.many("include") for package in given.split(",") if package]
    return bootstrap_debian(
        distribution, tag, variant=values.text("variant"), include=include, mirror=values.text("mirror"), log=log
    )


def _told(stream: Iterator[bytes], failed: list[str]) -> Iterator[bytes]:
    """Pass the stream on and note why it broke, for when the engine's complaint about that arrives first."""
    try:
        yield from stream
    except BootstrapError as exc:
        failed.append(str(exc))
        raise


def _rest(first: bytes, body: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from body


def _changes(distribution: str, tag: str) -> list[str]:
    if distribution == "registry":
        return list(REGISTRY_CHANGES)
    shell = "sh" if distribution == "busybox" else "bash"
    return [
        f"ENV PATH={_PATH}",
        f'CMD ["{shell}"]',
        f"LABEL org.opencontainers.image.title={distribution} org.opencontainers.image.version={tag}",
    ]


COMMANDS = {
    "image bootstrap": Command("[OPTIONS] debian:SUITE|ubuntu:SUITE|busybox|registry", run, FLAGS, least=1, most=1)
}
