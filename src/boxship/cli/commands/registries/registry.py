"""``registry``: a registry server of one's own. It is another program: these commands turn into it."""

from __future__ import annotations

import os
import sys

import boxship
from boxship.cli.command import Command, ExitError
from boxship.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

MODULE = "boxship.registry.server"

DATA = Flag(
    "data",
    "string",
    "Directory that holds everything",
    default="/var/lib/registry",
    shown='(default "/var/lib/registry")',
)
REPAIR = Flag("repair", "bool", "Remove damaged blobs, so that the next push brings them again")
GRACE = Flag("gc-grace", "duration", "How long blobs without a manifest are kept", default="1h", shown="(default 1h)")
UNTAGGED = Flag(
    "gc-untagged",
    "string",
    'Which manifests without a tag go: "keep" (none), "deleted" (their tag was deleted), "all"',
    default="deleted",
    shown='(default "deleted")',
)

# The keys of the configuration file that the flags stand for, as the server's environment variables.
VARIABLES = {
    "addr": "HTTP_ADDR",
    "data": "STORAGE_FILESYSTEM_ROOTDIRECTORY",
    "gc-grace": "STORAGE_MAINTENANCE_GARBAGECOLLECTION_GRACE",
    "gc-interval": "STORAGE_MAINTENANCE_GARBAGECOLLECTION_INTERVAL",
    "gc-untagged": "STORAGE_MAINTENANCE_GARBAGECOLLECTION_UNTAGGED",
    "htpasswd": "AUTH_HTPASSWD_PATH",
    "proxy": "PROXY_REMOTEURL",
    "tls-certificate": "HTTP_TLS_CERTIFICATE",
    "tls-key": "HTTP_TLS_KEY",
}

SERVE_FLAGS = (
    Flag("addr", "string", "Address to listen on", default=":5000", shown='(default ":5000")'),
    DATA,
    GRACE,
    Flag(
        "gc-interval", "duration", "Time between two rounds of garbage collection", default="1m", shown="(default 1m)"
    ),
    UNTAGGED,
    Flag("htpasswd", "string", "Ask for a password; file of users (bcrypt)"),
    Flag("no-delete", "bool", "Refuse to delete images"),
    Flag("proxy", "string", "Be a pull-through cache of the registry at this URL"),
    Flag("tls-certificate", "string", "Serve HTTPS with this certificate"),
    Flag("tls-key", "string", "Key of the certificate"),
    Flag("tokens", "bool", "Issue tokens to the users of --htpasswd instead of asking for the password each time"),
)


def serve(_session: Session, values: Values) -> int:
    """Become the server."""
    environment = _environment(values)
    if values.is_set("no-delete"):
        environment["REGISTRY_STORAGE_DELETE_ENABLED"] = "false"
    if values.is_set("tokens"):
        environment["REGISTRY_AUTH_ISSUER"] = "{}"
    return _become("serve", values.arguments, environment)


def collect(_session: Session, values: Values) -> int:
    """Become one round of garbage collection."""
    return _become("garbage-collect", values.arguments, _environment(values))


def verify(_session: Session, values: Values) -> int:
    """Become a check of all blobs."""
    return _become("repair" if values.is_set("repair") else "verify", values.arguments, _environment(values))


def htpasswd(_session: Session, values: Values) -> int:
    """Become the maker of a line for the file of users."""
    return _become("htpasswd", values.arguments, {})


def _environment(values: Values) -> dict[str, str]:
    """Return the variables of the flags that were given: others would override the configuration file."""
    return {f"REGISTRY_{VARIABLES[name]}": values.text(name) for name in VARIABLES if name in values.changed}


def _become(command: str, arguments: list[str], environment: dict[str, str]) -> int:
    """Replace this process by the server's program; its packages need the interpreter's whole library."""
    root = os.path.dirname(os.path.abspath(boxship.__path__[0]))
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        os.execve(
            sys.executable,
            [sys.executable, "-m", MODULE, command, *arguments],
            {**os.environ, "PYTHONPATH": path, **environment},
        )
    except OSError as exc:
        raise ExitError(f"registry: {sys.executable}: {exc.strerror}") from exc


COMMANDS = {
    "registry gc": Command("[OPTIONS] [CONFIG]", collect, (DATA, GRACE, UNTAGGED), most=1),
    "registry htpasswd": Command(
        "USER",
        htpasswd,
        least=1,
        most=1,
        extra="Reads the password from stdin and prints a line for the file of users.",
    ),
    "registry serve": Command("[OPTIONS] [CONFIG]", serve, SERVE_FLAGS, most=1),
    "registry verify": Command("[OPTIONS] [CONFIG]", verify, (DATA, REPAIR), most=1),
}
