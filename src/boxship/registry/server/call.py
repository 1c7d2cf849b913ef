"""One request to the distribution API, and what its handlers share: rights, pages of lists, answers, events."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from aiohttp import web

from boxship.registry.server.access import Caller
from boxship.registry.server.errors import RegistryError
from boxship.registry.server.names import Target
from boxship.registry.server.notifications import make_event
from boxship.registry.server.service import Service


class Call(NamedTuple):
    """A request to one repository; the caller's rights are not checked yet."""

    service: Service
    request: web.Request
    caller: Caller
    target: Target

    @property
    def repository(self) -> str:
        """The repository's name, checked."""
        return self.target.name

    def require(self, *actions: str) -> None:
        """Raise RegistryError unless the caller may do all of this here."""
        self.service.access.require(self.request, self.caller, self.repository, *actions)

    def require_writable(self) -> None:
        """Raise RegistryError UNSUPPORTED where nothing may be changed."""
        if self.service.proxy is not None or self.service.config.storage.maintenance.readonly.enabled:
            raise RegistryError("UNSUPPORTED", message="this registry is read-only")

    def require_deletable(self) -> None:
        """Raise RegistryError UNSUPPORTED where nothing may be deleted."""
        self.require_writable()
        if not self.service.config.storage.delete.enabled:
            raise RegistryError("UNSUPPORTED", message="deletion is disabled (storage.delete.enabled)")

    def notify(self, action: str, **target: Any) -> None:
        """Tell the webhooks what happened."""
        notifier = self.service.notifier
        if notifier.wanted:
            if "size" in target:
                target["length"] = target["size"]
            notifier.send(
                make_event(
                    action,
                    self.request,
                    user=self.caller.user,
                    repository=self.repository,
                    address=notifier.address,
                    target=target,
                )
            )


def page_of(request: web.Request, most: int) -> tuple[int, str]:
    """Return ``n`` (at most ``most``) and ``last`` of a list's query. Raises RegistryError PAGINATION_NUMBER_INVALID."""
    text = request.query.get("n", "")
    if text and (not text.isascii() or not text.isdecimal() or len(text) > 9):
        raise RegistryError("PAGINATION_NUMBER_INVALID", {"n": text[:20]})
    return min(int(text), most) if text else most, request.query.get("last", "")


def next_link(request: web.Request, count: int, last: str, **more: str) -> dict[str, str]:
    """Return the ``Link`` header to the page after ``last`` (RFC 5988)."""
    query = urlencode({**more, "n": str(count), "last": last})
    return {"Link": f'<{quote(request.path)}?{query}>; rel="next"'}


def answer_json(document: Any, *, headers: dict[str, str] | None = None, type: str = "") -> web.Response:
    """Return a JSON answer."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return web.Response(body=body, content_type=type or "application/json", headers=headers)
