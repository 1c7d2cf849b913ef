"""What a registry refuses: one code of the specification ("Error Codes"), its HTTP status and its usual text."""

from __future__ import annotations

from typing import Any

# code: (status, message), in the words of the specification where it has them
CODES = {
    "BLOB_UNKNOWN": (404, "blob unknown to registry"),
    "BLOB_UPLOAD_INVALID": (400, "blob upload invalid"),
    "BLOB_UPLOAD_UNKNOWN": (404, "blob upload unknown to registry"),
    "DENIED": (403, "requested access to the resource is denied"),
    "DIGEST_INVALID": (400, "provided digest did not match uploaded content"),
    "MANIFEST_BLOB_UNKNOWN": (400, "manifest references a manifest or blob unknown to registry"),
    "MANIFEST_INVALID": (400, "manifest invalid"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown"),
    "NAME_INVALID": (400, "invalid repository name"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "PAGINATION_NUMBER_INVALID": (400, "invalid number of results requested"),
    "RANGE_INVALID": (416, "invalid content range"),
    "SIZE_INVALID": (400, "provided length did not match content length"),
    "TAG_INVALID": (400, "manifest tag did not match URI"),
    "TOOMANYREQUESTS": (429, "too many requests"),
    "UNAUTHORIZED": (401, "authentication required"),
    "UNAVAILABLE": (503, "service unavailable"),
    "UNKNOWN": (500, "unknown error"),
    "UNSUPPORTED": (405, "the operation is unsupported"),
}


class RegistryError(Exception):
    """An answer with an error body; ``detail`` is any JSON value, ``headers`` go into the answer."""

    def __init__(
        self,
        code: str,
        detail: Any = None,  # a JSON document
        *,
        message: str = "",
        status: int = 0,
        headers: dict[str, str] | None = None,
    ) -> None:
        usual_status, usual_message = CODES[code]
        self.code = code
        self.status = status or usual_status
        self.message = message or usual_message
        self.detail = detail
        self.headers = headers or {}
        super().__init__(f"{code}: {self.message}")

    def document(self) -> dict[str, Any]:
        """Return the body (specification, "Error Codes")."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        return {"errors": [error]}


def storage_full() -> RegistryError:
    """The disk has no room for an upload."""
    return RegistryError("UNKNOWN", message="no space left on the registry's disk", status=507)
