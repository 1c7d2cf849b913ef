"""Which attestations a build was asked for (pure)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from boxship.base.errors import InvalidInput, NotSupported

_PROVENANCE = frozenset(("mode", "version", "builder-id", "reproducible"))


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be made. ``provenance`` is its mode: "min", "max", "" for none."""

    sbom: bool = False
    provenance: str = ""
    builder_id: str = ""  # URL of whoever answers for the build
    reproducible: bool = False  # what the caller says of the build

    @property
    def any(self) -> bool:
        """Whether anything is wanted."""
        return self.sbom or bool(self.provenance)


def parse(asked: Mapping[str, Mapping[str, str]]) -> Wanted:
    """Return what ``asked`` (type of the attestation to its attributes) means. Raises InvalidInput, NotSupported."""
    wanted = Wanted()
    for kind, attributes in asked.items():
        if kind not in ("sbom", "provenance"):
            raise InvalidInput(f"unknown attestation type {kind!r}: there are sbom and provenance")
        if _truth(kind, "disabled", attributes.get("disabled", "false")):
            continue
        given = {key: value for key, value in attributes.items() if key != "disabled"}
        if kind == "sbom":
            if "generator" in given:
                raise NotSupported(f"attestation generator {given['generator']!r}: the engine's own is the only one")
            for key in given:
                raise InvalidInput(f"unknown attribute {key!r} of the attestation sbom")
            wanted = msgspec.structs.replace(wanted, sbom=True)
        else:
            wanted = _provenance(wanted, given)
    return wanted


def _provenance(wanted: Wanted, given: Mapping[str, str]) -> Wanted:
    for key in given:
        if key not in _PROVENANCE:
            raise InvalidInput(f"unknown attribute {key!r} of the attestation provenance")
    mode, version = given.get("mode", "min"), given.get("version", "v1")
    if mode not in ("min", "max"):
        raise InvalidInput(f"invalid mode {mode!r} of the attestation provenance: there are min and max")
    if version != "v1":
        raise NotSupported(f"version {version!r} of the attestation provenance: there is v1")
    return msgspec.structs.replace(
        wanted,
        provenance=mode,
        builder_id=given.get("builder-id", ""),
        reproducible=_truth("provenance", "reproducible", given.get("reproducible", "false")),
    )


def _truth(kind: str, key: str, text: str) -> bool:
    if text in ("true", "1"):
        return True
    if text in ("false", "0"):
        return False
    raise InvalidInput(f"invalid value {text!r} of {key} of the attestation {kind}")
