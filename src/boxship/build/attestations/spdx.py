"""The packages of an image as an SPDX 2.3 document (pure): equal images give equal bytes.

Source: the SPDX specification 2.3, https://spdx.github.io/spdx-spec/v2.3/.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from boxship import __version__
from boxship.build.attestations import licenses
from boxship.build.attestations.packages import Package
from boxship.build.attestations.scan import Contents

PREDICATE = "https://spdx.dev/Document"
_NOTHING = "NOASSERTION"
_ROOT = "SPDXRef-Image"
_PLACES = 20  # that a document names for one package
_ID = re.compile(r"[^A-Za-z0-9.-]+")
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d+)?(?:/[!-~]*)?", re.ASCII)
_ADDRESS = re.compile(r"(.*?)\s*<([^<>]*)>")


def document(id: str, name: str, found: Contents, created_ns: int) -> dict[str, Any]:
    """Return the document of the image with an id and a name for people ("": none), created at a time since 1970."""
    texts: dict[str, str] = {}
    packages = [_package(purl, places, texts) for purl, places in _by_purl(found.packages)]
    name = name or id
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(0, created_ns // 1_000_000_000)))
    comment = f"Not looked at: {'; '.join(found.skipped)}" if found.skipped else ""
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://boxship.dev/spdx/image/{id.replace(':', '/')}",
        "creationInfo": {
            "creators": [f"Tool: boxship-{__version__}"],
            "created": created,
            **({"comment": comment} if comment else {}),
        },
        "packages": [_image(id, name, found), *packages],
        **(
            {
                "hasExtractedLicensingInfos": [
                    {"licenseId": id, "extractedText": text, "name": text} for id, text in sorted(texts.items())
                ]
            }
            if texts
            else {}
        ),
        "relationships": [
            _relationship("SPDXRef-DOCUMENT", "DESCRIBES", _ROOT),
            *(_relationship(_ROOT, "CONTAINS", package["SPDXID"]) for package in packages),
        ],
    }


def encode(document: dict[str, Any]) -> bytes:
    """Return the document as JSON."""
    return msgspec.json.encode(document)


def _by_purl(packages: Iterable[Package]) -> list[tuple[str, list[Package]]]:
    """Return each package once, with all its places."""
    found: dict[str, list[Package]] = {}
    for package in packages:
        found.setdefault(package.purl, []).append(package)
    return sorted(found.items())


def _image(id: str, name: str, found: Contents) -> dict[str, Any]:
    return {
        "SPDXID": _ROOT,
        "name": name,
        "versionInfo": id,
        "downloadLocation": _NOTHING,
        "filesAnalyzed": False,
        "licenseConcluded": _NOTHING,
        "licenseDeclared": _NOTHING,
        "copyrightText": _NOTHING,
        "supplier": _NOTHING,
        "primaryPackagePurpose": "CONTAINER",
        **({"summary": found.distribution.name} if found.distribution.name else {}),
    }


def _package(purl: str, places: list[Package], texts: dict[str, str]) -> dict[str, Any]:
    package = places[0]
    license, named = licenses.expression(package.license)
    texts.update(named)
    sources = ", ".join(f"/{place.source}" for place in places[:_PLACES])
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    name = f"{package.namespace}/{package.name}" if package.type in ("npm", "golang") else package.name
    return {
        "SPDXID": f"SPDXRef-{package.type}-{_ID.sub('-', package.name)}-{hashlib.sha256(purl.encode()).hexdigest()[:16]}",
        "name": name.lstrip("/"),
        "versionInfo": package.version,
        "downloadLocation": _NOTHING,
        "filesAnalyzed": False,
        "homepage": package.homepage if _URL.fullmatch(package.homepage) else _NOTHING,
        "licenseConcluded": _NOTHING,
        "licenseDeclared": license,
        "copyrightText": _NOTHING,
        "supplier": _supplier(package.supplier),
        "sourceInfo": f"found in {sources}{more}",
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl},
        ],
    }


def _supplier(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if not text:
        return _NOTHING
    name, address = (match[1], match[2]) if match is not None else (text, "")
    name = name.replace("(", "").replace(")", "").strip() or address
    return f"Person: {name}{f' ({address})' if '@' in address else ''}" if name else _NOTHING


def _relationship(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
