"""``push ssh://...`` and ``pull ssh://...``: images between two engines through this process, without a registry.

Only blobs that the target lacks travel, and of those only the bytes that an interrupted attempt did not bring.
"""

from __future__ import annotations

from boxship.cli.command import STDOUT, ExitError
from boxship.cli.progress import Progress
from boxship.client import jsontext
from boxship.client.config import Endpoint
from boxship.client.engine import Engine, quote
from boxship.client.errors import NotFoundError
from boxship.client.host import parse_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from boxship.cli.command import Session

SCHEME = "ssh://"
REPORT_EVERY = 1 << 20  # bytes between two reports of a bar
JSON = {"Content-Type": "application/json"}


def push(session: Session, url: str, names: list[str], *, quiet: bool) -> int:
    """Send images of this engine to the one at ``url``."""
    return _ship(session, session.engine, _far_engine(url), url, names, "Push", quiet=quiet)


def pull(session: Session, url: str, names: list[str], *, quiet: bool) -> int:
    """Fetch images from the engine at ``url``."""
    return _ship(session, _far_engine(url), session.engine, url, names, "Pull", quiet=quiet)


def _far_engine(url: str) -> Engine:
    from boxship import __version__

    return Engine(Endpoint(parse_host(url), None, ""), f"Boxship-Client/{__version__} (linux)", {})


def _ship(
    session: Session, source: Engine, target: Engine, url: str, names: list[str], verb: str, *, quiet: bool
) -> int:
    """Move the images one by one; ``verb`` is "Push" or "Pull"."""
    if not names:
        raise ExitError(f'{session.program}: an image is missing after "{url}"')
    try:
        for name in names:
            shown = _Shown(quiet=quiet)
            shown.show({"status": f"{verb}ing {name} {'to' if verb == 'Push' else 'from'} {url}"})
            _ship_one(source, target, name, verb, shown)
            session.line(name)
    except NotFoundError as exc:
        if exc.message != "page not found":
            raise
        raise ExitError(
            f"{session.program}: the engines on both sides must be Boxship of this version or newer to exchange images "
            f"over ssh; use save and load instead"
        ) from exc
    finally:
        source.close()
        target.close()
    return 0


def _ship_one(source: Engine, target: Engine, name: str, verb: str, shown: _Shown) -> None:
    shipment = source.json("GET", f"/boxship/images/{quote(name, safe='/:@')}/shipment")
    missing = {layer["Digest"]: layer for layer in target.json("POST", "/boxship/images/missing", document=shipment)}
    for layer in shipment["Layers"]:
        if layer["Digest"] not in missing:
            shown.show({"id": _short(layer), "status": "Already exists"})
    for layer in missing.values():
        if layer["Here"] < layer["Size"]:
            reader = source.stream("GET", f"/boxship/blobs/{layer['Digest']}", {"offset": layer["Here"]})
            body = _reported(iter(reader.read_some, b""), layer, verb, shown)
            query = {"size": layer["Size"], "offset": layer["Here"]}
            target.stream("PUT", f"/boxship/blobs/{layer['Digest']}", query, body=body).read()
        shown.show({"id": _short(layer), "status": f"{verb}ed", "progressDetail": {}})
    body_of_image = jsontext.dumps(shipment).encode("utf-8", "surrogateescape")
    messages = target.messages(target.stream("POST", "/boxship/images/receive", body=body_of_image, headers=JSON))
    for message in messages:
        if message.get("status") != "Already exists":  # which was told before
            shown.show(message)


def _reported(pieces: Iterator[bytes], layer: dict[str, Any], verb: str, shown: _Shown) -> Iterator[bytes]:
    """Yield the pieces and move the layer's bar with them."""
    sent, told = layer["Here"], 0
    if sent:
        shown.show({"id": _short(layer), "status": "Resuming", "progressDetail": {}})
    for piece in pieces:
        yield piece
        sent += len(piece)
        if sent - told >= REPORT_EVERY:
            told = sent
            detail = {"current": sent, "total": layer["Size"]}
            shown.show({"id": _short(layer), "status": f"{verb}ing", "progressDetail": detail})


def _short(layer: dict[str, Any]) -> str:
    return str(layer["Digest"].partition(":")[2][:12])


class _Shown:
    """Progress, or only its errors."""

    def __init__(self, *, quiet: bool) -> None:
        self._progress = Progress(STDOUT)
        self._quiet = quiet

    def show(self, message: dict[str, Any]) -> None:
        if not self._quiet or message.get("error"):
            self._progress.show([message])
