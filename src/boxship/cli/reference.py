"""Image references as people write them: ``busybox``, ``host:5000/a/b:tag``, ``name@sha256:...``."""

from __future__ import annotations

DEFAULT_DOMAIN = "docker.io"
OFFICIAL = "library/"
INVALID = "invalid reference format"
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_HEX = frozenset("0123456789abcdef")
_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference:
    """A normalised reference: registry ``domain``, ``path`` in it, ``tag`` and ``digest`` (empty when not given)."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str, digest: str) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """The name in full: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: ``busybox``."""
        if self.domain == DEFAULT_DOMAIN:
            return self.path.removeprefix(OFFICIAL) if self.path.count("/") == 1 else self.path
        return self.name

    @property
    def familiar(self) -> str:
        """The reference as people write it, with tag and digest."""
        return self.familiar_name + self.suffix

    @property
    def suffix(self) -> str:
        """Tag and digest with their separators."""
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def tagged(self) -> Reference:
        """Return the same with the tag ``latest`` if it has neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, "latest", "")


def parse(text: str) -> Reference:
    """Return the reference that ``text`` is. Raises ValueError in Docker's words."""
    rest, at, digest = text.partition("@")
    if at and not _is_digest(digest):
        raise ValueError(INVALID)
    if not at and len(text) == 64 and set(text) <= _HEX:
        raise ValueError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _is_tag(tag):
        raise ValueError(INVALID)
    domain, path = _split_domain(f"{head}{slash}{last}")
    if path != path.lower():
        raise ValueError(f"{INVALID}: repository name ({path}) must be lowercase")
    if not all(_is_component(part) for part in path.split("/")) or not _is_domain(domain):
        raise ValueError(INVALID)
    if digest:
        _check_algorithm(digest)
    if len(path) > 255:
        raise ValueError("repository name must not be more than 255 characters")
    return Reference(domain, path, tag, digest)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not (set(".:") & set(first) or first == "localhost" or first.lower() != first):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain in (DEFAULT_DOMAIN, "index.docker.io"):
        domain = DEFAULT_DOMAIN
        if "/" not in path:
            path = OFFICIAL + path
    return domain, path


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= 128 and text[0] not in ".-" and set(text) <= _WORD | {".", "-"}


def _is_digest(text: str) -> bool:
    algorithm, colon, value = text.partition(":")
    return bool(colon and algorithm) and len(value) >= 32 and set(value.lower()) <= _HEX


def _check_algorithm(digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    if algorithm not in _HEX_LENGTH:
        raise ValueError("unsupported digest algorithm")
    if len(value) != _HEX_LENGTH[algorithm]:
        raise ValueError("invalid checksum digest length")
    if not set(value) <= _HEX:
        raise ValueError("invalid checksum digest format")


def _is_component(text: str) -> bool:
    """Whether ``text`` is letters and digits joined by ``.``, ``_``, ``__`` or dashes."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER or not set(text) <= _LOWER | set("._-"):
        return False
    separators = "".join(letter if letter in "._-" else " " for letter in text).split()
    return all(run in (".", "_", "__") or set(run) == {"-"} for run in separators)


def _is_domain(text: str) -> bool:
    host, colon, port = text.partition(":") if not text.startswith("[") else (text, "", "")
    if colon and not port.isdecimal():
        return False
    return bool(host) and set(host) <= _WORD | set(".-[]:") and not host.startswith(("-", "."))


def platform_json(text: str) -> str:
    """Return ``os[/arch[/variant]]`` as the JSON that newer API calls take."""
    from boxship.client import jsontext

    os, _, rest = text.lower().partition("/")
    architecture, _, variant = rest.partition("/")
    fields = {"architecture": architecture, "os": os, "variant": variant}
    return jsontext.dumps({name: value for name, value in fields.items() if value})
