"""Webhooks: what happened, sent to endpoints in the reference registry's envelope.

Each endpoint has a queue and a task of its own. An event is sent until the endpoint answers 2xx: ``threshold`` times at once,
then after ``backoff``. A queue that is full loses its oldest event, counted as dropped: the registry never waits for an
endpoint, and its memory is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import Counter

from boxship.base import clock
from boxship.registry.server.config import Endpoint, seconds

log = logging.getLogger("boxship.registry")

MEDIA_TYPE = "application/vnd.docker.distribution.events.v1+json"
QUEUE_LIMIT = 1000


def make_event(
    action: str,
    request: web.BaseRequest,
    *,
    user: str,
    repository: str,
    address: str,
    target: dict[str, Any],
) -> dict[str, Any]:
    """Return one event; ``target`` holds mediaType, digest, size, tag and the like."""
    return {
        "id": _uuid(),
        "timestamp": clock.rfc3339(clock.now_ns()),
        "action": action,
        "target": {"repository": repository, **target},
        "request": {
            "id": _uuid(),
            "addr": request.remote or "",
            "host": request.host,
            "method": request.method,
            "useragent": request.headers.get("User-Agent", ""),
        },
        "actor": {"name": user} if user else {},
        "source": {"addr": address, "instanceID": _INSTANCE},
    }


class Notifier:
    """Sends events to all endpoints; ``run`` owns the sending."""

    def __init__(self, endpoints: Sequence[Endpoint], events: Counter, address: str) -> None:
        self._queues = [_Queue(endpoint, events) for endpoint in endpoints if not endpoint.disabled]
        self.address = f"{socket.gethostname()}{address[address.rfind(':') :]}"

    @property
    def wanted(self) -> bool:
        """Return whether anybody listens."""
        return bool(self._queues)

    def send(self, event: dict[str, Any]) -> None:
        """Queue an event for those who want it."""
        for queue in self._queues:
            queue.add(event)

    async def run(self) -> None:
        """Send until cancelled."""
        if not self._queues:
            return
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(queue.run(session))


class _Queue:
    def __init__(self, endpoint: Endpoint, events: Counter) -> None:
        self._endpoint = endpoint
        self._ignored = {*endpoint.ignoredmediatypes, *endpoint.ignore.mediatypes}
        self._waiting: deque[dict[str, Any]] = deque()
        self._some = asyncio.Event()
        self._counts = {
            name: events.labels(endpoint.name, name) for name in ("Events", "Successes", "Failures", "Dropped")
        }

    def add(self, event: dict[str, Any]) -> None:
        if event["action"] in self._endpoint.ignore.actions or event["target"].get("mediaType") in self._ignored:
            return
        self._counts["Events"].inc()
        if len(self._waiting) >= QUEUE_LIMIT:
            self._waiting.popleft()
            self._counts["Dropped"].inc()
        self._waiting.append(event)
        self._some.set()

    async def run(self, session: aiohttp.ClientSession) -> None:
        tries = 0
        while True:
            await self._some.wait()
            if not self._waiting:
                self._some.clear()
                continue
            event = self._waiting[0]
            if await self._post(session, event):
                tries = 0
                self._counts["Successes"].inc()
                if self._waiting and self._waiting[0] is event:
                    self._waiting.popleft()
                continue
            self._counts["Failures"].inc()
            tries += 1
            if tries >= self._endpoint.threshold:
                await asyncio.sleep(seconds(self._endpoint.backoff))

    async def _post(self, session: aiohttp.ClientSession, event: dict[str, Any]) -> bool:
        headers = [("Content-Type", MEDIA_TYPE)]
        headers += [(name, value) for name, values in self._endpoint.headers.items() for value in values]
        timeout = aiohttp.ClientTimeout(total=seconds(self._endpoint.timeout))
        try:
            async with session.post(
                self._endpoint.url, json={"events": [event]}, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return 200 <= answer.status < 400
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            log.debug("notification %s: %s", self._endpoint.name, exc)
            return False


def _uuid() -> str:
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_INSTANCE = _uuid()
