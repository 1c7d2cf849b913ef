"""The command line's configuration: ``config.json``, contexts and the environment, in Docker's places and order."""

from __future__ import annotations

import os

from boxship.client import jsontext
from boxship.client.errors import HostError
from boxship.client.host import TlsFiles, parse_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_CONTEXT = "default"


class Config:
    """``config.json`` of one directory; a missing file is an empty one."""

    __slots__ = ("_document", "directory")

    def __init__(self, directory: str | None = None) -> None:
        home = os.environ.get("HOME") or "/root"
        self.directory = directory or os.environ.get("DOCKER_CONFIG") or f"{home}/.docker"
        self._document: dict[str, Any] | None = None

    @property
    def path(self) -> str:
        """Where the file is."""
        return f"{self.directory}/config.json"

    @property
    def document(self) -> dict[str, Any]:
        """The file's content, read once."""
        if self._document is None:
            self._document = self._read()
        return self._document

    def text(self, key: str) -> str:
        """Return the text under ``key``, empty when there is none."""
        value = self.document.get(key)
        return value if isinstance(value, str) else ""

    def save(self) -> None:
        """Write the document back, readable by its owner only."""
        os.makedirs(self.directory, 0o700, exist_ok=True)
        temporary = f"{self.path}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(jsontext.indented(self.document, "\t"))
        os.replace(temporary, self.path)

    def _read(self) -> dict[str, Any]:
        content = read_file(self.path)
        if not content:
            return {}
        try:
            document = jsontext.loads(content)
        except ValueError as exc:
            raise HostError(f"error parsing config file ({self.path}): {exc}") from exc
        return document if isinstance(document, dict) else {}


class Endpoint:
    """Where the engine is: its address, TLS files for TCP, and the context that it came from."""

    __slots__ = ("context", "host", "tls")

    def __init__(self, host: str, tls: TlsFiles | None, context: str) -> None:
        self.host = host
        self.tls = tls
        self.context = context


class GlobalOptions:
    """What stood before the command."""

    __slots__ = ("context", "debug", "hosts", "tls", "tls_verify", "tlscacert", "tlscert", "tlskey")

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.context = ""
        self.debug = False
        self.tls: bool | None = None
        self.tls_verify: bool | None = None
        self.tlscacert = ""
        self.tlscert = ""
        self.tlskey = ""


def context_name(options: GlobalOptions, config: Config) -> str:
    """Return the name of the context in force: the flag's, then (unless a host is named) the environment's, the file's."""
    if options.context:
        return options.context
    if options.hosts or os.environ.get("DOCKER_HOST"):
        return DEFAULT_CONTEXT
    return os.environ.get("DOCKER_CONTEXT") or config.text("currentContext") or DEFAULT_CONTEXT


def resolve_endpoint(options: GlobalOptions, config: Config) -> Endpoint:
    """Return the engine's endpoint as options, environment and contexts give it. Raises HostError."""
    if options.context and options.hosts:
        raise HostError("conflicting options: cannot specify both --host and --context")
    if len(options.hosts) > 1:
        raise HostError("unable to resolve docker endpoint: Specify only one -H")
    name = context_name(options, config)
    try:
        if name != DEFAULT_CONTEXT:
            return _context_endpoint(name, config)
        tls = _tls_files(options, config)
        host = options.hosts[0] if options.hosts else os.environ.get("DOCKER_HOST", "")
        return Endpoint(parse_host(host, tls=tls is not None), tls, name)
    except HostError as exc:
        raise HostError(f"unable to resolve docker endpoint: {exc}") from exc


def context_directories(name: str, config: Config) -> tuple[str, str]:
    """Return the directories of a context's metadata and of its TLS files; their name is the digest of ``name``."""
    from hashlib import sha256

    digest = sha256(name.encode()).hexdigest()
    return f"{config.directory}/contexts/meta/{digest}", f"{config.directory}/contexts/tls/{digest}"


def read_file(path: str) -> bytes:
    """Return the file's content, empty when there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""


def _context_endpoint(name: str, config: Config) -> Endpoint:
    meta, tls_directory = context_directories(name, config)
    content = read_file(f"{meta}/meta.json")
    if not content:
        raise HostError(f'context "{name}": context not found: open {meta}/meta.json: no such file or directory')
    docker = jsontext.loads(content).get("Endpoints", {}).get("docker", {})
    tls = None
    if os.path.isdir(f"{tls_directory}/docker"):
        files = [f"{tls_directory}/docker/{file}.pem" for file in ("ca", "cert", "key")]
        tls = TlsFiles(*files, verify=not docker.get("SkipTLSVerify", False))
    return Endpoint(parse_host(docker.get("Host", ""), tls=tls is not None), tls, name)


def _tls_files(options: GlobalOptions, config: Config) -> TlsFiles | None:
    verify = options.tls_verify
    if verify is None:
        verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not options.tls:
        return None
    directory = os.environ.get("DOCKER_CERT_PATH") or config.directory
    return TlsFiles(
        options.tlscacert or f"{directory}/ca.pem",
        options.tlscert or f"{directory}/cert.pem",
        options.tlskey or f"{directory}/key.pem",
        verify=verify,
    )
