"""Web pages for people: repositories, tags, and what an image consists of. HTML and one style sheet, no script.

Everything that is shown was pushed by somebody: it is escaped, and the pages forbid browsers to run or load anything else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode

from aiohttp import web

from boxship.base import clock
from boxship.registry.server.access import Caller
from boxship.registry.server.documents import is_index
from boxship.registry.server.errors import RegistryError
from boxship.registry.server.names import check_name, check_reference, is_digest
from boxship.registry.server.picture import Layer, draw, human_size, short
from boxship.registry.server.repositories import Manifest, Tag
from boxship.registry.server.rules import PULL
from boxship.registry.server.service import Service

PAGE = 100
MANIFEST_LIMIT = 64 * 1024  # bytes of a manifest that lists look into
CONFIG_LIMIT = 4 * 1024 * 1024  # bytes of an image's configuration that are looked at
# Annotations of an entry that attests something about another one, as BuildKit writes them.
_ATTESTED, _REFERENCE_TYPE = "vnd.docker.reference.digest", "vnd.docker.reference.type"
_POLICY = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


async def answer(service: Service, request: web.Request) -> web.Response:
    """Answer ``/``, ``/style.css``, ``/r/<repository>`` and ``/r/<repository>/-/<tag or digest>``."""
    path = request.path
    if path == "/style.css":
        return web.Response(text=_STYLE, content_type="text/css", headers={"Cache-Control": "max-age=3600"})
    try:
        caller = await service.access.identify(request)
        if path == "/":
            return await _repositories(service, request, caller)
        if path.startswith("/r/"):
            name, _, reference = path.removeprefix("/r/").rstrip("/").partition("/-/")
            _require(service, request, caller, check_name(name))
            if reference:
                return await _image(service, request, name, unquote(reference))
            return await _tags(service, request, name)
        raise RegistryError("NAME_UNKNOWN")
    except RegistryError as exc:
        headers = exc.headers
        if exc.status == 401:  # browsers know passwords, not tokens
            headers = {"WWW-Authenticate": 'Basic realm="Registry"'}
        body = f"<h1>{_ERRORS.get(exc.status, 'That did not work')}</h1><p>{escape(exc.message)}.</p>"
        return _page("Error", body, status=exc.status, headers=headers)


class _Parts(NamedTuple):
    """What an image's page shows of its documents."""

    layers: Sequence[Layer]
    facts: Sequence[tuple[str, str]]


async def _repositories(service: Service, request: web.Request, caller: Caller) -> web.Response:
    wanted, last = request.query.get("q", "")[:255], request.query.get("last", "")
    names: list[str] = []
    while len(names) <= PAGE:
        found = await asyncio.to_thread(
            service.storage.repositories.names, after=last, limit=1000, containing=wanted.lower()
        )
        names += [name for name in found if service.access.may_list(caller, name)]
        if len(found) < 1000:
            break
        last = found[-1]
    if not names and not caller.user and not service.access.open:
        raise RegistryError("UNAUTHORIZED")
    title = f"Repositories matching “{escape(wanted)}”" if wanted else "Repositories"
    rows = []
    for name in names[:PAGE]:
        tags = await asyncio.to_thread(service.storage.repositories.tags, name, limit=1001) or []
        newest = max((tag.updated_ns for tag in tags), default=0)
        count = "more than 1000" if len(tags) > 1000 else str(len(tags))
        rows.append(
            f'<tr><td><a href="/r/{quote(name)}">{escape(name)}</a></td><td class="number">{count}</td>'
            f"<td>{_when(newest)}</td></tr>"
        )
    body = f"<h1>{title}</h1>"
    if rows:
        body += (
            f'<table><tr><th>Repository</th><th class="number">Tags</th><th>Updated</th></tr>{"".join(rows)}</table>'
        )
    else:
        body += '<p class="note">There is nothing here.</p>'
    if len(names) > PAGE:
        query = urlencode({"q": wanted, "last": names[PAGE - 1]})
        body += f'<p><a href="/?{escape(query)}" rel="next">More</a></p>'
    return _page("Repositories", body, search=wanted)


async def _tags(service: Service, request: web.Request, name: str) -> web.Response:
    repositories = service.storage.repositories
    tags = await asyncio.to_thread(repositories.tags, name, after=request.query.get("last", ""), limit=PAGE + 1)
    if tags is None:
        raise RegistryError("NAME_UNKNOWN")
    rows = await asyncio.to_thread(_tag_rows, service, name, tags[:PAGE])
    body = f"<h1>{escape(name)}</h1>"
    if rows:
        head = '<tr><th>Tag</th><th>Digest</th><th class="number">Size</th><th>Pushed</th></tr>'
        body += f"<table>{head}{''.join(rows)}</table><h2>Pull</h2>{_pull_command(request, name, tags[0].name)}"
    else:
        body += '<p class="note">No tags; its manifests have digests only.</p>'
    if len(tags) > PAGE:
        query = urlencode({"last": tags[PAGE - 1].name})
        body += f'<p><a href="?{escape(query)}" rel="next">More</a></p>'
    return _page(name, body)


async def _image(service: Service, request: web.Request, name: str, reference: str) -> web.Response:
    check_reference(reference)
    found = await asyncio.to_thread(service.storage.repositories.find, name, reference)
    if found is None:
        raise RegistryError("MANIFEST_UNKNOWN")
    body = _pull_command(request, name, reference) + await asyncio.to_thread(_describe, service, name, found)
    separator = "@" if is_digest(reference) else ":"
    head = f'<h1><a href="/r/{quote(name)}">{escape(name)}</a>{separator}{escape(reference)}</h1>'
    return _page(f"{name}{separator}{reference}", head + body)


def _describe(service: Service, name: str, found: Manifest) -> str:
    """Return what an image consists of; blocks on the disk, and for long with the largest manifests."""
    document = json.loads(found.body)
    facts = [("Digest", found.digest), ("Type", found.media_type)]
    if is_index(found.media_type):
        return _facts(facts) + "<h2>Platforms</h2>" + _platforms(name, document)
    parts = _parts(document, _read_config(service, name, document))
    total = sum(layer.size for layer in parts.layers)
    size = ("Size", f"{human_size(total)} in {len(parts.layers)} layers")
    return _facts([*facts, *parts.facts, size]) + "<h2>Layers</h2>" + draw(parts.layers) + _layer_table(parts.layers)


def _parts(document: dict[str, Any], config: dict[str, Any]) -> _Parts:
    """Join a manifest's layers with the lines of its history that made one."""
    history = config.get("history")
    lines = [
        str(line.get("created_by") or line.get("comment") or "")
        for line in (history if isinstance(history, list) else [])
        if isinstance(line, dict) and not line.get("empty_layer")
    ]
    layers = [
        Layer(item["digest"], item["size"], lines[index] if index < len(lines) else _kind(item))
        for index, item in enumerate(document["layers"])
    ]
    platform = "/".join(str(config[key]) for key in ("os", "architecture", "variant") if config.get(key))
    inner = config.get("config")
    settings = inner if isinstance(inner, dict) else {}
    facts = [
        ("Platform", platform),
        ("Created", str(config.get("created") or "")),
        ("Author", str(config.get("author") or "")),
    ]
    for key in ("Entrypoint", "Cmd", "User", "WorkingDir"):
        if settings.get(key):
            value = settings[key]
            facts.append((key, json.dumps(value) if isinstance(value, list) else str(value)))
    return _Parts(layers, [(key, value) for key, value in facts if value])


def _kind(layer: dict[str, Any]) -> str:
    """Return what a layer without a line of history is: the type of a statement, or its media type."""
    return str((layer.get("annotations") or {}).get("in-toto.io/predicate-type") or layer.get("mediaType", ""))


def _read_config(service: Service, name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return an image's configuration; empty for artifacts and whatever is no JSON object."""
    digest = document["config"]["digest"]
    size = service.storage.blobs.size(name, digest)
    if size is None or size > CONFIG_LIMIT:
        return {}
    try:
        with open(service.storage.blobs.path(digest), "rb") as file:
            value = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _tag_rows(service: Service, name: str, tags: Sequence[Tag]) -> list[str]:
    """Return the table's rows; what a manifest of unusual length holds is not looked at."""
    rows = []
    for tag in tags:
        found = service.storage.repositories.find(name, tag.digest)
        held = _held(found) if found is not None and len(found.body) <= MANIFEST_LIMIT else ""
        link = f"/r/{quote(name)}/-/{quote(tag.name)}"
        rows.append(
            f'<tr><td><a href="{link}">{escape(tag.name)}</a></td><td class="id">{escape(short(tag.digest))}</td>'
            f'<td class="number">{held}</td><td>{_when(tag.updated_ns)}</td></tr>'
        )
    return rows


def _held(found: Manifest) -> str:
    """Return the size of an image, or the number of an index's platforms."""
    document = json.loads(found.body)
    if is_index(found.media_type):
        count = sum(not _subject(item) for item in document["manifests"])
        attested = ", attested" if count < len(document["manifests"]) else ""
        return f"{count} platform{'s' if count != 1 else ''}{attested}"
    return human_size(sum(item["size"] for item in document["layers"]))


def _subject(item: dict[str, Any]) -> str:
    """Return the digest of what an entry of an index attests something about, "" for an image."""
    annotations = item.get("annotations") or {}
    return str(annotations.get(_ATTESTED, "")) if annotations.get(_REFERENCE_TYPE) == "attestation-manifest" else ""


def _platforms(name: str, document: dict[str, Any]) -> str:
    shown = {item["digest"]: _platform(item) for item in document["manifests"]}
    rows = []
    for item in document["manifests"]:
        subject = _subject(item)
        text = f"attestations of {shown.get(subject) or short(subject)}" if subject else shown[item["digest"]]
        link = f"/r/{quote(name)}/-/{quote(item['digest'])}"
        rows.append(
            f'<tr><td><a href="{link}">{escape(text or item.get("mediaType", ""))}</a></td>'
            f'<td class="id">{escape(short(item["digest"]))}</td></tr>'
        )
    return f"<table><tr><th>Platform</th><th>Digest</th></tr>{''.join(rows)}</table>"


def _platform(item: dict[str, Any]) -> str:
    platform = item.get("platform") or {}
    return "/".join(str(platform[key]) for key in ("os", "architecture", "variant") if platform.get(key))


def _layer_table(layers: Sequence[Layer]) -> str:
    rows = [
        f'<tr><td class="number">{number}</td><td class="id">{escape(short(layer.digest))}</td>'
        f'<td class="number">{human_size(layer.size)}</td><td><code>{escape(layer.made_by[:300])}</code></td></tr>'
        for number, layer in enumerate(layers, 1)
    ]
    head = '<tr><th class="number">#</th><th>Digest</th><th class="number">Size</th><th>Made by</th></tr>'
    return f"<h2>History</h2><table>{head}{''.join(rows)}</table>"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts) + "</dl>"


def _pull_command(request: web.Request, name: str, reference: str) -> str:
    separator = "@" if is_digest(reference) else ":"
    return f"<pre>docker pull {escape(request.host)}/{escape(name)}{separator}{escape(reference)}</pre>"


def _when(time_ns: int) -> str:
    return clock.rfc3339(time_ns)[:16].replace("T", " ") if time_ns else ""


def _require(service: Service, request: web.Request, caller: Caller, name: str) -> None:
    service.access.require(request, caller, name, PULL)


def _page(
    title: str, body: str, *, search: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)} - Registry</title><link rel="stylesheet" href="/style.css"></head><body>'
        '<header><div><a class="home" href="/">Boxship registry</a><form action="/" role="search">'
        f'<input type="search" name="q" aria-label="Search" placeholder="Search repositories" value="{escape(search)}">'
        f"<button>Search</button></form></div></header><main>{body}</main></body></html>"
    )
    return web.Response(
        text=text,
        status=status,
        content_type="text/html",
        headers={"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin", **(headers or {})},
    )


_ERRORS = {401: "Sign in", 403: "Not allowed", 404: "Not found"}
_STYLE = resources.files("boxship.registry.server").joinpath("style.css").read_text(encoding="utf-8")
