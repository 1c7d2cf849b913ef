"""Docker's authorization plugins (``--authorization-plugin``): each has to allow a request and its answer, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from boxship.api.authorization import Answered, Asked
from boxship.base.errors import BoxshipError, Forbidden, SystemFailure
from boxship.plugins import Plugins

INTERFACE = "authz"


class _Verdict(msgspec.Struct):
    allow: bool = msgspec.field(default=False, name="Allow")
    message: str = msgspec.field(default="", name="Msg")


class PluginAuthorizer:
    """Implements ``api.authorization.Authorizer``; a plugin that does not answer allows nothing."""

    def __init__(self, names: Sequence[str], plugins: Plugins) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._plugins = plugins

    async def check(self) -> None:
        """Raise NotFound or SystemFailure when one of the plugins can't be had; waits for those that come late."""
        for name in self._names:
            await self._plugins.find(name, INTERFACE, patient=True)

    async def admit(self, asked: Asked) -> None:
        """Raise Forbidden, SystemFailure."""
        await self._ask("AuthZPlugin.AuthZReq", _document(asked))

    async def release(self, asked: Asked, answered: Answered) -> None:
        """Raise Forbidden, SystemFailure."""
        document = {
            **_document(asked),
            "ResponseStatusCode": answered.status,
            "ResponseHeaders": answered.headers,
            "ResponseBody": answered.body or None,
        }
        await self._ask("AuthZPlugin.AuthZRes", document)

    async def _ask(self, method: str, document: dict[str, Any]) -> None:
        body = {key: value for key, value in document.items() if value}
        for name in self._names:
            try:
                verdict = await self._plugins.ask(name, method, body, _Verdict)
            except BoxshipError as exc:
                raise SystemFailure(f"plugin {name} failed with error: {exc}") from exc
            if not verdict.allow:
                raise Forbidden(f"authorization denied by plugin {name}: {verdict.message}")


def _document(asked: Asked) -> dict[str, Any]:
    return {
        "User": asked.user,
        "UserAuthNMethod": "TLS" if asked.user else "",
        "RequestMethod": asked.method,
        "RequestUri": asked.uri,
        "RequestHeaders": asked.headers,
        "RequestBody": asked.body,
    }
