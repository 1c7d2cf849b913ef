"""``push ssh://...`` and ``pull ssh://...``: images between two engines through this process, without a registry.

Only blobs that the target lacks travel, and of those only the bytes that an interrupted attempt did not bring.
"""

from __future__ import annotations

import threading
from collections import deque

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
WAYS = 3  # blobs at once
PAYS = 16 << 20  # bytes for which another way is worth its connections
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
    images = [shipment, *(shipment.get("Members") or ())]
    for digest in dict.fromkeys(layer["Digest"] for image in images for layer in image["Layers"] or ()):
        if digest not in missing:
            shown.show({"id": _short(digest), "status": "Already exists"})
    _Transfer(list(missing.values()), verb, shown).run(source, target)
    body_of_image = jsontext.dumps(shipment).encode("utf-8", "surrogateescape")
    messages = target.messages(target.stream("POST", "/boxship/images/receive", body=body_of_image, headers=JSON))
    for message in messages:
        if message.get("status") != "Already exists":  # which was told before
            shown.show(message)


class _Transfer:
    """The blobs of one image on their way, several at once where that pays; each way has connections of its own."""

    def __init__(self, blobs: list[dict[str, Any]], verb: str, shown: _Shown) -> None:
        self._waiting = deque(blobs)
        left = sum(blob["Size"] - blob["Here"] for blob in blobs)
        self._ways = min(WAYS, len(blobs), 1 + left // PAYS)
        self._verb = verb
        self._shown = shown
        self._failure: BaseException | None = None

    def run(self, source: Engine, target: Engine) -> None:
        """Move all of them; raise what the first that failed raises."""
        threads = [
            threading.Thread(target=self._way, args=(source.another(), target.another()), daemon=True)
            for _ in range(self._ways - 1)
        ]
        for thread in threads:
            thread.start()
        self._work(source, target)
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _way(self, source: Engine, target: Engine) -> None:
        try:
            self._work(source, target)
        finally:
            source.close()
            target.close()

    def _work(self, source: Engine, target: Engine) -> None:
        try:
            while self._failure is None:
                try:
                    blob = self._waiting.popleft()
                except IndexError:
                    return
                self._move(source, target, blob)
        except Exception as exc:
            self._failure = self._failure or exc

    def _move(self, source: Engine, target: Engine, blob: dict[str, Any]) -> None:
        if blob["Here"] < blob["Size"]:
            reader = source.stream("GET", f"/boxship/blobs/{blob['Digest']}", {"offset": blob["Here"]})
            body = self._reported(iter(reader.read_some, b""), blob)
            query = {"size": blob["Size"], "offset": blob["Here"]}
            target.stream("PUT", f"/boxship/blobs/{blob['Digest']}", query, body=body).read()
        self._shown.show({"id": _short(blob["Digest"]), "status": f"{self._verb}ed", "progressDetail": {}})

    def _reported(self, pieces: Iterator[bytes], blob: dict[str, Any]) -> Iterator[bytes]:
        """Yield the pieces and move the blob's bar with them; end with an error when another way has failed."""
        sent, told = blob["Here"], 0
        if sent:
            self._shown.show({"id": _short(blob["Digest"]), "status": "Resuming", "progressDetail": {}})
        for piece in pieces:
            if self._failure is not None:
                raise self._failure
            yield piece
            sent += len(piece)
            if sent - told >= REPORT_EVERY:
                told = sent
                detail = {"current": sent, "total": blob["Size"]}
                self._shown.show({"id": _short(blob["Digest"]), "status": f"{self._verb}ing", "progressDetail": detail})


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


class _Shown:
    """Progress, or only its errors; of several threads."""

    def __init__(self, *, quiet: bool) -> None:
        self._progress = Progress(STDOUT)
        self._quiet = quiet
        self._lock = threading.Lock()

    def show(self, message: dict[str, Any]) -> None:
        if not self._quiet or message.get("error"):
            with self._lock:
                self._progress.show([message])
