"""Registry credentials of this user: in ``config.json`` itself, or with a helper program (``docker-credential-*``).

``credHelpers`` names a helper for one registry, ``credsStore`` one for all others; without either the credentials lie in
``auths``, in base64. The helpers' protocol: one word as argument (get, store, erase, list), a server or a JSON document on
stdin, JSON on stdout, and a text on stdout with a status other than 0 when something is not there.
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64

from boxship.cli.command import ExitError
from boxship.client import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.client.config import Config

HUB = "https://index.docker.io/v1/"  # the key of Docker Hub's credentials
_TOKEN_USER = "<token>"  # what helpers store in place of a user name for an identity token
_MISSING = ("credentials not found in native keychain", "no credentials server URL", "no credentials username")


def server_key(server: str) -> str:
    """Return the key under which a server's credentials are kept: its host and port, or Docker Hub's."""
    bare = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if bare in ("", "docker.io", "index.docker.io", "registry-1.docker.io") else bare


def load(config: Config, server: str) -> dict[str, str]:
    """Return the ``AuthConfig`` for a server, empty when there is none. Raises ExitError when a helper fails."""
    key = server_key(server)
    helper = _helper(config, key)
    if helper:
        answer = _ask(helper, "get", key)
        if answer is None:
            return {}
        user, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
        if user == _TOKEN_USER:
            return {"identitytoken": secret, "serveraddress": key}
        return {"username": user, "password": secret, "serveraddress": key}
    held = config.document.get("auths") or {}
    entry = held.get(key) or held.get(f"https://{key}") or held.get(f"http://{key}") or {}
    found: dict[str, str] = {}
    if entry.get("auth"):
        try:
            text = a2b_base64(entry["auth"]).decode("utf-8", "replace")
        except Error as exc:
            raise ExitError(f"invalid auth configuration file for {key}: {exc}") from exc
        user, _, password = text.partition(":")
        found = {"username": user, "password": password.rstrip("\0"), "serveraddress": key}
    if entry.get("identitytoken"):
        found |= {"identitytoken": entry["identitytoken"], "serveraddress": key}
    return found


def store(config: Config, auth: dict[str, str]) -> str:
    """Keep credentials; return where they lie unencrypted, "" with a helper. Raises ExitError when a helper fails."""
    key = server_key(auth["serveraddress"])
    helper = _helper(config, key)
    token = auth.get("identitytoken", "")
    held = config.document.setdefault("auths", {})
    if helper:
        user, secret = (_TOKEN_USER, token) if token else (auth["username"], auth["password"])
        _ask(helper, "store", jsontext.dumps({"ServerURL": key, "Username": user, "Secret": secret}))
        held[key] = {}
        config.save()
        return ""
    user, password = auth["username"], "" if token else auth["password"]
    entry = {"auth": b2a_base64(f"{user}:{password}".encode(), newline=False).decode()}
    if token:
        entry["identitytoken"] = token
    held[key] = entry
    config.save()
    return config.path


def erase(config: Config, server: str) -> bool:
    """Forget the credentials for a server; return whether there were any."""
    key = server_key(server)
    helper = _helper(config, key)
    held = config.document.get("auths") or {}
    known = key in held
    if helper:
        known = _ask(helper, "erase", key) is not None or known
    if held.pop(key, None) is not None:
        config.save()
    return known


def registry_auth(session: Session, domain: str) -> str:
    """Return the credentials for a registry as the API takes them: base64url of their JSON, ``{}`` for none."""
    return encoded(load(session.config, domain))


def registry_config(session: Session) -> str:
    """Return all credentials in ``auths`` as the API's X-Registry-Config, which a build takes."""
    keys = list(session.config.document.get("auths") or {}) + list(session.config.document.get("credHelpers") or {})
    found = {server_key(key): load(session.config, key) for key in keys}
    return encoded({key: auth for key, auth in found.items() if auth})


def encoded(document: object) -> str:
    """Return a document as base64url of its JSON."""
    text = jsontext.dumps(document).encode()
    return b2a_base64(text, newline=False).decode().replace("+", "-").replace("/", "_")


def _helper(config: Config, key: str) -> str:
    """Return the name of the program that keeps the server's credentials, "" for none."""
    helpers = config.document.get("credHelpers") or {}
    bare = key.removeprefix("https://")
    name = helpers.get(key) or helpers.get(bare) or config.text("credsStore")
    if name and "/" in name:
        raise ExitError(f"invalid credential helper {name!r}: it is a name, not a path")
    return f"docker-credential-{name}" if name else ""


def _ask(program: str, word: str, text: str) -> dict[str, object] | None:
    """Return a helper's answer, None when it does not have what was asked for."""
    import subprocess  # only users of a helper pay for it

    try:
        done = subprocess.run([program, word], input=text.encode(), capture_output=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as exc:
        reason = f'exec: "{program}": executable file not found in $PATH' if isinstance(exc, OSError) else str(exc)
        raise ExitError(f"error getting credentials - err: {reason}, out: ``") from exc
    output = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        if output in _MISSING:
            return None
        verb = {"get": "getting", "store": "storing", "erase": "erasing"}[word]
        raise ExitError(f"error {verb} credentials - err: exit status {done.returncode}, out: `{output}`")
    if word != "get":
        return {}
    try:
        answer = jsontext.loads(output)
    except ValueError as exc:
        raise ExitError(f"error getting credentials - err: {exc}") from exc
    return answer if isinstance(answer, dict) else None
