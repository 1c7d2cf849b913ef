"""``login`` and ``logout``."""

from __future__ import annotations

import os

from boxship.cli import credentials
from boxship.cli.command import STDIN, Command, ExitError
from boxship.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("password", "string", "Password or Personal Access Token (PAT)", short="p"),
    Flag("password-stdin", "bool", "Take the Password or Personal Access Token (PAT) from stdin"),
    Flag("username", "string", "Username", short="u"),
)
_SECRET_LIMIT = 1024 * 1024


def login(session: Session, values: Values) -> int:
    """Check credentials with the registry and keep them."""
    username, password = values.text("username"), values.text("password")
    if values.is_set("password-stdin"):
        if "password" in values.changed:
            raise ExitError("conflicting options: cannot specify both --password and --password-stdin")
        if not username:
            raise ExitError("the --password-stdin option requires --username to be set")
        password = _stdin()
    elif "password" in values.changed:
        session.error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    server = values.arguments[0] if values.arguments else ""
    key = credentials.server_key(server)
    auth = credentials.load(session.config, server) if not username and not password else {}
    if auth:
        shown = "" if key == credentials.HUB else f" {key}"
        session.line(
            f"Authenticating with existing credentials... [Username: {auth.get('username', '')}]{shown}".rstrip()
        )
    else:
        username, password = _ask(session, username, password)
        auth = {"username": username, "password": password, "serveraddress": key}
    answer = session.engine.json("POST", "/auth", document={**auth, "serveraddress": key})
    token = str(answer.get("IdentityToken") or "")
    if token:
        auth = {**auth, "identitytoken": token, "password": ""}
    place = credentials.store(session.config, {"username": "", "password": "", **auth, "serveraddress": key})
    if place and not token:
        session.error(
            f"\nWARNING! Your credentials are stored unencrypted in '{place}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n"
        )
    session.line(str(answer.get("Status") or "Login Succeeded"))
    return 0


def logout(session: Session, values: Values) -> int:
    """Forget the credentials for a registry."""
    server = values.arguments[0] if values.arguments else ""
    key = credentials.server_key(server)
    session.line(f"Removing login credentials for {key}")
    try:
        credentials.erase(session.config, server)
    except ExitError as exc:
        session.error(f"WARNING: could not erase credentials:\n{key}: {exc.text}")
    return 0


def _ask(session: Session, username: str, password: str) -> tuple[str, str]:
    """Return user name and password, asked for on the terminal where they are missing. Raises ExitError without one."""
    if username and password:
        return username, password
    if not os.isatty(STDIN):
        raise ExitError("Error: Cannot perform an interactive login from a non TTY device")
    if not username:
        session.out("Username: ")
        username = _line()
        if not username:
            raise ExitError("Error: Non-null Username Required")
    if not password:
        import getpass

        password = getpass.getpass("Password: ")
        if not password:
            raise ExitError("Error: Password Required")
    return username, password


def _line() -> str:
    typed = b""
    while not typed.endswith(b"\n") and (piece := os.read(STDIN, 1)):
        typed += piece
    return typed.decode("utf-8", "replace").strip()


def _stdin() -> str:
    typed = b""
    while len(typed) < _SECRET_LIMIT and (piece := os.read(STDIN, 65536)):
        typed += piece
    return typed.decode("utf-8", "replace").rstrip("\r\n")


COMMANDS = {
    "login": Command("[OPTIONS] [SERVER]", login, FLAGS, most=1),
    "logout": Command("[SERVER]", logout, most=1),
}
