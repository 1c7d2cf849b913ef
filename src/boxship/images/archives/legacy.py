"""Archives of Docker before 1.10: ``repositories`` and one directory per layer with ``json`` and ``layer.tar``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from boxship.base.errors import InvalidInput
from boxship.images import reference
from boxship.images.archives.spool import Spool
from boxship.images.layers import Arrival, NewImage
from boxship.spec.oci import InvalidDocument, parse_config, parse_repositories
from boxship.spec.oci.config import LAYER_LIMIT
from boxship.spec.oci.document import parse_json

_NOT_OF_THE_CONFIG = frozenset(("id", "parent", "Size", "parent_id", "layer_id", "throwaway"))

Unpack = Callable[[str, str], tuple[str, str]]
"""Unpack the member at a path on top of a chain ID; return the new chain ID and the diff ID."""


def images(spool: Spool[Arrival], unpack: Unpack) -> list[NewImage]:
    """Return the images of the archive with configurations made from their layers' documents.

    Raises InvalidInput for a missing layer or parents in a circle.
    """
    names: dict[str, list[str]] = {}
    for repository, tags in parse_repositories(spool.document("repositories")).items():
        for tag, top in tags.items():
            names.setdefault(top, []).append(str(reference.parse_tagged(repository, tag)))
    return [_image(spool, unpack, top, given) for top, given in names.items()]


def _image(spool: Spool[Arrival], unpack: Unpack, top: str, names: list[str]) -> NewImage:
    documents: list[tuple[str, dict[str, Any]]] = []
    id = top
    while id:
        if len(documents) >= LAYER_LIMIT:
            raise InvalidInput("max depth exceeded")
        document = parse_json(spool.document(f"{id}/json"), f"{id}/json")
        if not isinstance(document, dict) or not isinstance(document.get("parent", ""), str):
            raise InvalidDocument(f"invalid {id}/json")
        documents.append((id, document))
        id = document.get("parent", "")
    chain: list[str] = []
    diff_ids: list[str] = []
    history = []
    for id, document in reversed(documents):
        history.append(_history(document))
        chain_id, diff_id = unpack(f"{id}/layer.tar", chain[-1] if chain else "")
        chain.append(chain_id)
        diff_ids.append(diff_id)
    config = {key: value for key, value in documents[0][1].items() if key not in _NOT_OF_THE_CONFIG}
    config |= {"rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history}
    encoded = json.dumps(config, separators=(",", ":")).encode()
    parse_config(encoded)
    return NewImage(encoded, chain, names)


def _history(document: dict[str, Any]) -> dict[str, Any]:
    command = (document.get("container_config") or {}).get("Cmd") or []
    entry = {
        "created": document.get("created"),
        "author": document.get("author"),
        "comment": document.get("comment"),
        "created_by": " ".join(str(word) for word in command),
    }
    return {key: value for key, value in entry.items() if value}
