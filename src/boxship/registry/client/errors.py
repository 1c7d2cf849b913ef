"""What a registry, or the way to it, can answer instead of what was asked for."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime

from boxship.base.errors import BoxshipError, InvalidInput, NotFound, SystemFailure, Unauthorized

_TEXT_LIMIT = 2000  # characters of a stranger's error text that are passed on


class RegistryError(BoxshipError):
    """A registry refused; ``status`` is its HTTP status, ``code`` the specification's (``MANIFEST_UNKNOWN``), or ""."""

    def __init__(self, text: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class ManifestUnknown(RegistryError, NotFound):
    """There is no such manifest or blob."""


class NameUnknown(RegistryError, NotFound):
    """There is no such repository."""


class Denied(RegistryError, Unauthorized):
    """The credentials do not suffice."""


class NoCredentials(RegistryError, SystemFailure):
    """The registry at ``url`` asks for credentials and there are none."""

    def __init__(self, url: str) -> None:
        super().__init__("no basic auth credentials", code="UNAUTHORIZED")
        self.url = url


class Unreachable(RegistryError, SystemFailure):
    """The registry can't be talked to, or broke off; another try or another host may help.

    ``wait`` is how many seconds it asked to be left alone (RFC 9110, ``Retry-After``); 0 when it did not.
    """

    def __init__(self, text: str, *, status: int = 0, code: str = "", wait: float = 0) -> None:
        super().__init__(text, status=status, code=code)
        self.wait = wait


class NotConnected(Unreachable):
    """Nobody listens there, or the name is unknown."""


class Misbehaved(RegistryError, SystemFailure):
    """The answer breaks the protocol or a limit; asking again does not help."""


class Mismatch(InvalidInput):
    """The bytes are not those that were asked for by digest or size."""


def innermost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group of tasks that end together: it is why the others were cancelled."""
    exc: BaseException = group
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def wait_of(retry_after: str, now: float) -> float:
    """Return the seconds from ``now`` (since 1970) that a ``Retry-After`` asks for, 0 for what is past or nonsense."""
    text = retry_after.strip()[:64]
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0)
    except (ValueError, OverflowError):
        return 0


_WORDLESS = {  # answers to HEAD have no body
    401: "unauthorized: authentication required",
    403: "denied: requested access to the resource is denied",
}


def of_answer(status: int, reason: str, body: bytes, *, retry_after: str = "") -> RegistryError:
    """Return the error that an answer of 400 and above means (distribution-spec, "Error Codes"), in Docker's words.

    ``retry_after`` is the answer's header of that name.
    """
    code = message = detail = ""
    try:
        document = json.loads(body)
        first = document["errors"][0]
        code, message = str(first.get("code", "")), str(first.get("message", ""))
        detail = first["detail"] if isinstance(first.get("detail"), str) else ""
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        pass
    words = code.lower().replace("_", " ")
    if code:
        text = f"{words}: {message or detail or words}"
    elif status in _WORDLESS:
        text = _WORDLESS[status]
    elif status == 404:
        text = "manifest unknown: manifest unknown"
    else:
        text = f"received unexpected HTTP status: {status} {reason}"
    text = "".join(sign if sign.isprintable() else " " for sign in text[:_TEXT_LIMIT])
    if code == "NAME_UNKNOWN":
        return NameUnknown(text, status=status, code=code)
    if code in ("MANIFEST_UNKNOWN", "BLOB_UNKNOWN") or (status == 404 and not code):
        return ManifestUnknown(text, status=status, code=code)
    if status in (401, 403) or code in ("UNAUTHORIZED", "DENIED"):
        return Denied(text, status=status, code=code or ("UNAUTHORIZED" if status == 401 else "DENIED"))
    if status in TRANSIENT or code == "TOOMANYREQUESTS":
        return Unreachable(text, status=status, code=code, wait=wait_of(retry_after, time.time()))
    return RegistryError(text, status=status, code=code)


TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
"""HTTP statuses after which the same request may succeed later."""
