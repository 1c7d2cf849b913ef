"""``context``: names for engines, kept in Docker's own directory and form so that both programs see the same ones."""

from __future__ import annotations

import os

from boxship.cli.command import Command, ExitError
from boxship.cli.flags import JSON_FORMAT, TABLE_FORMAT, Flag
from boxship.cli.table import Listing
from boxship.client import jsontext
from boxship.client.config import DEFAULT_CONTEXT, context_directories, context_name, read_file
from boxship.client.errors import HostError
from boxship.client.host import default_host, parse_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

    Context = dict[str, Any]

DESCRIPTION_LENGTH = 45
IN_MEMORY = "<IN MEMORY>"
NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-")
ENDPOINT_KEYS = ("from", "host", "ca", "cert", "key", "skip-tls-verify")
TLS_KEYS = ("ca", "cert", "key")

ENDPOINT_HELP = """Docker endpoint config:

NAME                DESCRIPTION
from                Copy named context's Docker endpoint configuration
host                Docker endpoint on which to connect
ca                  Trust certs signed only by this CA
cert                Path to TLS certificate file
key                 Path to TLS key file
skip-tls-verify     Skip TLS certificate validation

Example:

$ docker context create my-context --description "some description" \
--docker "host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\""""

LISTING = Listing(
    "*formatter.clientContextContext",
    {
        "Name": ("NAME", lambda c: c["Name"] + (" *" if c["current"] else "")),
        "Description": ("DESCRIPTION", lambda c: c["description"]),
        "DockerEndpoint": ("DOCKER ENDPOINT", lambda c: c["host"]),
        "Error": ("ERROR", lambda _: ""),
        "Current": ("CURRENT", lambda c: str(c["current"]).lower()),
    },
    ("Name", "Description", "DockerEndpoint", "Error"),
    id_field="Name",
)


def check_name(name: str) -> None:
    """Raise ExitError for a name that cannot be a context's."""
    if name == DEFAULT_CONTEXT:
        raise ExitError('"default" is a reserved context name')
    if len(name) < 2 or not set(name) <= NAME_LETTERS or not name[0].isalnum():
        raise ExitError(
            f'context name "{name}" is invalid, names are validated against regexp "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"'
        )


def _default() -> Context:
    host = os.environ.get("DOCKER_HOST") or default_host()
    return {
        "Name": DEFAULT_CONTEXT,
        "Metadata": {},
        "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}},
        "TLSMaterial": {},
        "Storage": {"MetadataPath": IN_MEMORY, "TLSPath": IN_MEMORY},
    }


def read(session: Session, name: str) -> Context:
    """Return a context as ``context inspect`` shows it. Raises ExitError."""
    if name == DEFAULT_CONTEXT:
        return _default()
    meta, tls = context_directories(name, session.config)
    content = read_file(f"{meta}/meta.json")
    if not content:
        raise ExitError(f'context "{name}": context not found: open {meta}/meta.json: no such file or directory')
    context: Context = jsontext.loads(content)
    files = sorted(os.listdir(f"{tls}/docker")) if os.path.isdir(f"{tls}/docker") else []
    context["TLSMaterial"] = {"docker": files} if files else {}
    context["Storage"] = {"MetadataPath": meta, "TLSPath": tls}
    return context


def names(session: Session) -> list[str]:
    """Return the names of all contexts, the default one too, in order."""
    found = [DEFAULT_CONTEXT]
    root = f"{session.config.directory}/contexts/meta"
    for entry in os.listdir(root) if os.path.isdir(root) else []:
        content = read_file(f"{root}/{entry}/meta.json")
        if content:
            found.append(jsontext.loads(content)["Name"])
    return sorted(found)


def current(session: Session) -> str:
    """Return the name of the context in force."""
    return context_name(session.options, session.config)


def ls(session: Session, values: Values) -> int:
    """List contexts."""
    active = current(session)
    rows = []
    for name in names(session):
        context = read(session, name)
        description = context["Metadata"].get("Description") or ""
        if name == DEFAULT_CONTEXT:
            description = "Current DOCKER_HOST based configuration"
        rows.append(
            {
                "Name": name,
                "current": name == active,
                "description": description,
                "host": context["Endpoints"].get("docker", {}).get("Host", ""),
            }
        )
    if values.is_set("quiet"):
        session.out("".join(f"{row['Name']}\n" for row in rows))
        return 0
    LISTING.show(session, rows, values.text("format"))
    if os.environ.get("DOCKER_HOST"):
        session.error(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the "
            "global --context flag, or unset DOCKER_HOST environment variable."
        )
    return 0


def show(session: Session, _values: Values) -> int:
    """Print the name of the context in force."""
    session.line(current(session))
    return 0


def inspect(session: Session, values: Values) -> int:
    """Show contexts in full."""
    from boxship.cli.commands.system.inspect import print_objects

    wanted = values.arguments or [current(session)]
    found: list[Context] = []
    problems = []
    for name in wanted:
        try:
            found.append(read(session, name))
        except ExitError as exc:
            problems.append(exc.text)
    print_objects(session, found, values.text("format"))
    if problems:
        raise ExitError("\n".join(problems))
    return 0


def use(session: Session, values: Values) -> int:
    """Make a context the one in force from now on."""
    name = values.arguments[0]
    read(session, name)
    if name == DEFAULT_CONTEXT:
        session.config.document.pop("currentContext", None)
    else:
        session.config.document["currentContext"] = name
    if session.config.document or os.path.exists(session.config.path):
        session.config.save()
    session.line(name)
    session.error(f'Current context is now "{name}"')
    if name != DEFAULT_CONTEXT and os.environ.get("DOCKER_HOST"):
        session.error(
            f'Warning: DOCKER_HOST environment variable overrides the active context. To use "{name}", either set the '
            "global --context flag, or unset DOCKER_HOST environment variable."
        )
    return 0


def create(session: Session, values: Values) -> int:
    """Keep an endpoint under a name."""
    name = values.arguments[0]
    check_name(name)
    if name in names(session):
        raise ExitError(f'context "{name}" already exists')
    source = values.text("from")
    options = _endpoint_options(values)
    endpoint, source = _endpoint(session, options, source or ("" if options else current(session)))
    metadata = {"Description": values.text("description")} if values.text("description") else {}
    write_meta(session, {"Name": name, "Metadata": metadata, "Endpoints": {"docker": endpoint}})
    _copy_tls(session, options, source, f"{context_directories(name, session.config)[1]}/docker")
    session.line(name)
    session.error(f'Successfully created context "{name}"')
    return 0


def update(session: Session, values: Values) -> int:
    """Change a context's description or endpoint; what is not named stays."""
    import shutil

    name = values.arguments[0]
    check_name(name)
    context = read(session, name)
    document = {key: context[key] for key in ("Name", "Metadata", "Endpoints")}
    options = _endpoint_options(values)
    if values.text("description"):
        document["Metadata"] = {**document["Metadata"], "Description": values.text("description")}
    if options:
        endpoint, source = _endpoint(session, options, "")
        document["Endpoints"] = {**document["Endpoints"], "docker": endpoint}
        if source != name:
            tls = f"{context_directories(name, session.config)[1]}/docker"
            shutil.rmtree(tls, ignore_errors=True)
            _copy_tls(session, options, source, tls)
    write_meta(session, document)
    session.line(name)
    session.error(f'Successfully updated context "{name}"')
    return 0


def write_meta(session: Session, document: Context) -> None:
    """Keep a context's name, metadata and endpoints: the whole file or the one before."""
    meta, _ = context_directories(document["Name"], session.config)
    os.makedirs(meta, 0o755, exist_ok=True)
    temporary = f"{meta}/meta.json.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(jsontext.dumps(document))
    os.replace(temporary, f"{meta}/meta.json")


def _endpoint(session: Session, options: dict[str, str], source: str) -> tuple[Context, str]:
    """Return the endpoint that ``options`` describe, or a copy of another context's, and that one's name."""
    source = source or options.pop("from", "")
    if source:
        return dict(read(session, source)["Endpoints"]["docker"]), source
    host = options.get("host", "")
    try:
        parse_host(host)
    except HostError as exc:
        raise ExitError(f"unable to create docker endpoint config: {exc}") from exc
    return {"Host": host, "SkipTLSVerify": options.get("skip-tls-verify", "").lower() in ("1", "true")}, ""


def _endpoint_options(values: Values) -> dict[str, str]:
    options: dict[str, str] = {}
    for text in values.many("docker"):
        for pair in text.split(","):
            key, equals, value = pair.partition("=")
            if not equals or key not in ENDPOINT_KEYS:
                raise ExitError(f"unable to create docker endpoint config: unrecognized config key: {key}")
            options[key] = value
    return options


def _copy_tls(session: Session, options: dict[str, str], source: str, target: str) -> None:
    files = {key: os.path.expanduser(options[key]) for key in TLS_KEYS if options.get(key)}
    if source:
        held = f"{context_directories(source, session.config)[1]}/docker"
        files = {key: f"{held}/{key}.pem" for key in TLS_KEYS if os.path.exists(f"{held}/{key}.pem")}
    if files:
        os.makedirs(target, 0o700, exist_ok=True)
    for key, path in files.items():
        with open(path, "rb") as origin:
            content = origin.read()
        descriptor = os.open(f"{target}/{key}.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)


def remove(session: Session, values: Values) -> int:
    """Forget contexts; the one in force only with --force."""
    import shutil

    active = current(session)
    problems = []
    for name in values.arguments:
        if name == DEFAULT_CONTEXT:
            problems.append('context "default" cannot be removed')
            continue
        meta, tls = context_directories(name, session.config)
        if not os.path.exists(f"{meta}/meta.json"):
            if not values.is_set("force"):
                problems.append(f'context "{name}" does not exist')
                continue
        elif name == active:
            if not values.is_set("force"):
                problems.append(f'context "{name}" is in use, set -f flag to force remove')
                continue
            session.config.document.pop("currentContext", None)
            session.config.save()
        shutil.rmtree(meta, ignore_errors=True)
        shutil.rmtree(tls, ignore_errors=True)
        session.line(name)
    if problems:
        raise ExitError("\n".join(problems))
    return 0


CHANGE_FLAGS = (
    Flag("description", "string", "Description of the context"),
    Flag("docker", "stringToString", "set the docker endpoint", shown="(default [])"),
)

COMMANDS = {
    "context ls": Command("[OPTIONS]", ls, (TABLE_FORMAT, Flag("quiet", "bool", "Only show context names", short="q"))),
    "context show": Command("", show),
    "context use": Command("CONTEXT", use, least=1, most=1),
    "context inspect": Command("[OPTIONS] [CONTEXT] [CONTEXT...]", inspect, (JSON_FORMAT,), most=None),
    "context create": Command(
        "[OPTIONS] CONTEXT",
        create,
        (*CHANGE_FLAGS, Flag("from", "string", "create context from a named context")),
        least=1,
        most=1,
        extra=ENDPOINT_HELP,
    ),
    "context update": Command(
        "[OPTIONS] CONTEXT",
        update,
        CHANGE_FLAGS,
        least=1,
        most=1,
        extra=ENDPOINT_HELP.replace("context create my-context", "context update my-context"),
    ),
    "context rm": Command(
        "CONTEXT [CONTEXT...]",
        remove,
        (Flag("force", "bool", "Force the removal of a context in use", short="f"),),
        least=1,
        most=None,
    ),
}
