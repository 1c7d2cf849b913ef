"""``--attest``, ``--sbom`` and ``--provenance``: what shall be attested about an image. Errors are Docker's."""

from __future__ import annotations

from boxship.cli import csvfields
from boxship.cli.command import ExitError
from boxship.cli.flags import parse_bool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def attestations(items: Sequence[str], sbom: str, provenance: str) -> dict[str, dict[str, str]]:
    """Return the attributes of each type that is asked for. The shorthands come before ``items``. Raises ExitError."""
    found: dict[str, dict[str, str]] = {}
    for item in items:
        kind, attributes = _parse(item)
        if kind in found:
            raise ExitError(f"duplicate attestation field {kind}")
        found[kind] = attributes
    for kind, text in (("sbom", sbom), ("provenance", provenance)):
        if text:
            found[kind] = _parse(_long(kind, text))[1]
    return {kind: attributes for kind, attributes in found.items() if not _is_disabled(kind, attributes)}


def _long(kind: str, text: str) -> str:
    """Return what stands in a shorthand as ``--attest`` has it."""
    try:
        return f"type={kind},disabled={'false' if parse_bool(text) else 'true'}"
    except ValueError:
        return f"type={kind},{text}"


def _parse(item: str) -> tuple[str, dict[str, str]]:
    try:
        fields = csvfields.split(item)
    except ValueError as exc:
        raise ExitError(f"failed to parse attestation: {exc}") from exc
    attributes: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise ExitError(f"invalid value {field}")
        attributes[key.strip().lower()] = value
    kind = attributes.pop("type", "")
    if not kind:
        raise ExitError("attestation type not specified")
    return kind, attributes


def _is_disabled(kind: str, attributes: dict[str, str]) -> bool:
    try:
        return parse_bool(attributes.pop("disabled", "false"))
    except ValueError as exc:
        raise ExitError(f"invalid value in --attest type={kind}: {exc}") from exc
