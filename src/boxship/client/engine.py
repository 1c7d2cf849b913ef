"""Calls of the Engine API: version negotiation, JSON in and out, streams, and hijacked connections."""

from __future__ import annotations

import os

from boxship.client import jsontext
from boxship.client.errors import ApiError, ClientError, NotFoundError, TooOldError, UnreachableError
from boxship.client.host import dial
from boxship.http.client import Connection, ProtocolError, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from boxship.client.config import Endpoint
    from boxship.http.client import Stream

    Query = Mapping[str, object]
    Body = bytes | Iterable[bytes] | None

NEWEST_API_VERSION = "1.51"  # the last in which inspect has the flat addresses that scripts read
OLDEST_NEGOTIATED = "1.24"  # what an engine without an Api-Version header is taken to speak


class Engine:
    """One engine, reached at ``endpoint``; connects with the first call and keeps one idle connection."""

    def __init__(self, endpoint: Endpoint, user_agent: str, extra_headers: Mapping[str, str]) -> None:
        self.endpoint = endpoint
        self._headers = {"Host": _host_header(endpoint.host), "User-Agent": user_agent, **extra_headers}
        self._idle: Connection | None = None
        self._version = os.environ.get("DOCKER_API_VERSION", "").removeprefix("v")
        self._ping: dict[str, str] | None = None

    def another(self) -> Engine:
        """Return the same engine with connections of its own, for another thread."""
        twin = Engine(self.endpoint, "", {})
        twin._headers, twin._version = self._headers, self._version
        return twin

    @property
    def version(self) -> str:
        """The API version in use, agreed on with the engine at the first call."""
        if not self._version:
            offered = self.ping().get("api-version") or OLDEST_NEGOTIATED
            self._version = min(offered, NEWEST_API_VERSION, key=version_key)
        return self._version

    def speaks(self, version: str) -> bool:
        """Whether the API version in use is ``version`` or newer."""
        return version_key(self.version) >= version_key(version)

    def require(self, version: str, feature: str) -> None:
        """Raise TooOldError unless the engine's API is ``version`` or newer; ``feature`` is the flag's or command's name."""
        if not self.speaks(version):
            raise TooOldError(feature, version, self.version)

    def ping(self) -> dict[str, str]:
        """Return the headers of ``HEAD /_ping`` (lower-case names). Raises UnreachableError."""
        if self._ping is None:
            response = self._send("HEAD", "/_ping", {}, None)
            self._release(response)
            self._ping = response.headers
        return self._ping

    def json(self, method: str, path: str, query: Query | None = None, document: object = None) -> Any:
        """Make a call and return the answer's JSON, None for an empty one.

        ``document`` is sent as JSON unless it is None. Raises ApiError, UnreachableError.
        """
        if document is None:
            data = self.stream(method, path, query).read()
        else:
            body = jsontext.dumps(document).encode("utf-8", "surrogateescape")
            headers = {"Content-Type": "application/json"}
            data = self.stream(method, path, query, body=body, headers=headers).read()
        if not data.strip():
            return None
        try:
            return jsontext.loads(data)
        except ValueError as exc:
            raise ClientError(f"Error reading remote info: {exc}") from exc

    def stream(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
    ) -> BodyReader:
        """Make a call and return its body to be read as it comes. Raises ApiError, UnreachableError."""
        response = self._send(method, self._target(path, query), headers or {}, body)
        self._check(response)
        return BodyReader(self, response)

    def messages(self, reader: BodyReader) -> Iterator[Any]:
        """Yield the JSON documents of a progress or event stream, one a line."""
        for line in reader.lines():
            if line.strip():
                yield jsontext.loads(line)

    def hijack(
        self, path: str, query: Query | None = None, document: object = None, method: str = "POST"
    ) -> tuple[Stream, bytes, str]:
        """Make a call that turns the connection into a raw stream.

        Returns the stream, bytes that came with the answer, and its media type. Raises ApiError, UnreachableError.
        """
        headers = {"Connection": "Upgrade", "Content-Type": "text/plain", "Upgrade": "tcp"}
        body = None
        if document is not None:
            headers["Content-Type"] = "application/json"
            body = jsontext.dumps(document).encode("utf-8", "surrogateescape")
        response = self._send(method, self._target(path, query), headers, body, upgrade=True)
        self._check(response)
        stream, leftover = response.connection.detach()
        return stream, leftover, response.headers.get("content-type", "")

    def close(self) -> None:
        """Close the idle connection, if there is one."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def release(self, response: Response) -> None:
        """Keep the connection of a finished answer for the next call."""
        self._release(response)

    def _target(self, path: str, query: Query | None) -> str:
        prefix = f"/v{self.version}"
        pairs = "&".join(f"{quote(name)}={quote(_query_text(value))}" for name, value in (query or {}).items())
        return f"{prefix}{path}?{pairs}" if pairs else prefix + path

    def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: Body, *, upgrade: bool = False
    ) -> Response:
        connection, self._idle = self._idle, None
        if connection is None or connection.hung_up():
            connection = Connection(dial(self.endpoint.host, self.endpoint.tls))
        try:
            try:
                connection.send(method, target, {**self._headers, **headers}, body)
            except BrokenPipeError:
                pass  # the engine refused early: its answer says why
            return connection.receive(method, upgrade=upgrade)
        except (OSError, ProtocolError) as exc:
            connection.close()
            if isinstance(exc, ConnectionRefusedError):
                raise UnreachableError(self.endpoint.host) from exc
            verb = method.capitalize() if method in ("GET", "POST", "PUT", "HEAD") else method
            raise ClientError(f'error during connect: {verb} "{_url(self._headers["Host"], target)}": {exc}') from exc

    def _check(self, response: Response) -> None:
        # 304: the container is in the wanted state already. Any other redirection is of a path that the router cleans.
        if response.status < 300 or response.status in (101, 304):
            return
        body = response.read()
        self._release(response)
        if response.status < 400:
            raise NotFoundError(404, "page not found")
        error = NotFoundError if response.status == 404 else ApiError
        raise error(response.status, *_error_text(response, body))

    def _release(self, response: Response) -> None:
        if response.reusable and self._idle is None:
            self._idle = response.connection
        elif not response.reusable:
            response.connection.close()


class BodyReader:
    """The body of an answer; its connection serves the next call once it was read to its end."""

    __slots__ = ("_engine", "_response", "headers")

    def __init__(self, engine: Engine, response: Response) -> None:
        self._engine = engine
        self._response = response
        self.headers = response.headers

    def read_some(self) -> bytes:
        """Return the next piece, empty at the end. Raises ClientError when the stream breaks."""
        try:
            piece = self._response.read_some()
        except (OSError, ProtocolError) as exc:
            raise ClientError(str(exc)) from exc
        if not piece:
            self._engine.release(self._response)
        return piece

    def read(self) -> bytes:
        """Return the rest."""
        return b"".join(iter(self.read_some, b""))

    def lines(self) -> Iterator[bytes]:
        """Yield lines without their line feeds, each as soon as it is complete."""
        rest = b""
        while piece := self.read_some():
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
        if rest:
            yield rest

    def fileno(self) -> int:
        """Return the descriptor to poll before reading; only sound while nothing is buffered."""
        return self._response.connection.fileno()

    def close(self) -> None:
        """Leave the answer unread and drop its connection."""
        self._response.connection.close()


def filters_text(filters: Mapping[str, Sequence[str]]) -> str:
    """Return filters as the API takes them: ``{"label": {"a=b": true}}``."""
    return jsontext.dumps({name: dict.fromkeys(sorted(set(values)), True) for name, values in sorted(filters.items())})


def version_key(text: str) -> tuple[int, ...]:
    """Return an API version as numbers to compare; what is no number counts as zero."""
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split("."))


_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def quote(text: str, safe: str = "") -> str:
    """Return ``text`` percent-encoded for a query or, with ``safe="/:@"``, for a path."""
    keep = _UNRESERVED | set(safe.encode())
    return "".join(chr(byte) if byte in keep else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def _query_text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else str(value)


def _host_header(host: str) -> str:
    scheme, _, rest = host.partition("://")
    if scheme == "ssh":
        return "docker.example.com"  # it shows in the texts of errors
    return rest.partition("/")[0] if scheme == "tcp" else "api.moby.localhost"


def _url(host: str, target: str) -> str:
    return f"http://{host}{target}"


def _error_text(response: Response, body: bytes) -> tuple[str, str]:
    """Return the message and the excerpt of an answer."""
    text = body.decode("utf-8", "replace").strip()
    if response.headers.get("content-type", "").startswith("application/json"):
        try:
            document = jsontext.loads(text)
            message, excerpt = document.get("message"), document.get("excerpt", "")
        except (ValueError, AttributeError):
            message, excerpt = None, ""
        if isinstance(message, str):
            return message.strip(), str(excerpt)
    return text or f"request returned {response.status} for API route and version", ""
