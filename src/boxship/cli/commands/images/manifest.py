"""``manifest``: lists of images for several platforms, put together here and pushed."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from boxship.cli.command import Command, ExitError
from boxship.cli.flags import Flag
from boxship.cli.manifests import ManifestLists, list_document
from boxship.cli.reference import parse
from boxship.client import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values
    from boxship.cli.reference import Reference

INSECURE = Flag("insecure", "bool", "Allow communication with an insecure registry")
_ANNOTATIONS = {"arch": "architecture", "os": "os", "os-version": "os.version", "variant": "variant"}


def create(session: Session, values: Values) -> int:
    """Begin a list, or go on with one."""
    target, *images = [_reference(text) for text in values.arguments]
    lists = ManifestLists(session.config)
    if lists.exists(_full(target)) and not values.is_set("amend"):
        raise ExitError("refusing to amend an existing manifest list with no --amend flag")
    found = [(image, _fetched(session, image, insecure=values.is_set("insecure"))) for image in images]
    for image, entry in found:
        lists.save(_full(target), _full(image), entry)
    session.line(f"Created manifest list {_full(target)}")
    return 0


def annotate(session: Session, values: Values) -> int:
    """Say what an image of a list runs on."""
    target, image = (_reference(text) for text in values.arguments)
    lists = ManifestLists(session.config)
    entry = lists.entry(_full(target), _full(image))
    if entry is None:
        raise ExitError(f"manifest for image {image.familiar} does not exist in {target.familiar}")
    platform: dict[str, Any] = entry["Descriptor"].setdefault("platform", {})
    for flag, key in _ANNOTATIONS.items():
        if values.text(flag):
            platform[key] = values.text(flag)
    if features := values.many("os-features"):
        platform["os.features"] = sorted({*platform.get("os.features", []), *features})
    lists.save(_full(target), _full(image), entry)
    return 0


def inspect(session: Session, values: Values) -> int:
    """Print a manifest or list, a local one first."""
    lists = ManifestLists(session.config)
    references = [_reference(text) for text in values.arguments]
    verbose, insecure = values.is_set("verbose"), values.is_set("insecure")
    if len(references) == 2:
        entry = lists.entry(_full(references[0]), _full(references[1]))
        if entry is None:
            raise ExitError(f"No such manifest: {references[1].familiar}")
        _print(session, entry, verbose=verbose)
        return 0
    (reference,) = references
    if entries := lists.entries(_full(reference)):
        session.line(jsontext.indented(entries, "\t") if verbose else list_document(entries)[1])
        return 0
    from boxship.cli.registries import fetch

    found, platform = fetch(session, reference, insecure=insecure)
    parsed = jsontext.loads(found.data)
    if "manifests" not in parsed:
        _print(session, _entry(reference, found, platform), verbose=verbose)
        return 0
    if not verbose:
        session.line(jsontext.indented(parsed, "   "))
        return 0
    shown = []
    for descriptor in parsed["manifests"]:
        one = type(reference)(reference.domain, reference.path, "", str(descriptor["digest"]))
        document, _ = fetch(session, one, insecure=insecure)
        shown.append(_entry(one, document, descriptor.get("platform") or {}))
    session.line(jsontext.indented(shown, "\t"))
    return 0


def push(session: Session, values: Values) -> int:
    """Push a list and its images."""
    target = _reference(values.arguments[0])
    lists = ManifestLists(session.config)
    entries = lists.entries(_full(target))
    if not entries:
        raise ExitError(f"{target.familiar} not found")
    from boxship.cli.registries import document, push_list

    sources = []
    for entry in entries:
        source = _reference(entry["Ref"])
        if source.domain != target.domain:
            raise ExitError(
                "cannot use source images from a different registry than the target image: "
                f"{source.domain} != {target.domain}"
            )
        raw = a2b_base64(entry["Raw"]).decode()
        sources.append((source, document(entry["Descriptor"]["mediaType"], raw)))
    made = document(*list_document(entries))
    for digest in push_list(session, target, sources, made, insecure=values.is_set("insecure")):
        session.line(f"Pushed ref {target.name}@{digest} with digest: {digest}")
    session.line(made.digest)
    if values.is_set("purge"):
        lists.remove(_full(target))
    return 0


def remove(session: Session, values: Values) -> int:
    """Forget local lists."""
    lists = ManifestLists(session.config)
    failures = []
    for text in values.arguments:
        try:
            lists.remove(_full(_reference(text)))
        except ExitError as exc:
            failures.append(exc.text)
    if failures:
        raise ExitError("\n".join(failures))
    return 0


def _reference(text: str) -> Reference:
    try:
        return parse(text).tagged()
    except ValueError as exc:
        raise ExitError(str(exc)) from exc


def _full(reference: Reference) -> str:
    return reference.name + reference.suffix


def _fetched(session: Session, reference: Reference, *, insecure: bool) -> dict[str, Any]:
    from boxship.cli.registries import fetch

    found, platform = fetch(session, reference, insecure=insecure)
    if "manifests" in jsontext.loads(found.data):
        raise ExitError(f"{reference.familiar} is a manifest list")
    return _entry(reference, found, platform)


def _entry(reference: Reference, found: Any, platform: dict[str, Any]) -> dict[str, Any]:
    """Return an image as Docker's files and ``inspect -v`` have it; ``found`` is the registry's document."""
    parsed = jsontext.loads(found.data)
    media_type = parsed.get("mediaType") or found.media_type
    descriptor = {"mediaType": media_type, "digest": found.digest, "size": len(found.data), "platform": platform}
    return {
        "Ref": _full(reference),
        "Descriptor": descriptor,
        "Raw": b2a_base64(found.data, newline=False).decode(),
        "SchemaV2Manifest" if "docker" in media_type else "OCIManifest": parsed,
    }


def _print(session: Session, entry: dict[str, Any], *, verbose: bool) -> None:
    shown = entry if verbose else jsontext.loads(a2b_base64(entry["Raw"]))
    session.line(jsontext.indented(shown, "\t"))


COMMANDS = {
    "manifest annotate": Command(
        "[OPTIONS] MANIFEST_LIST MANIFEST",
        annotate,
        (
            Flag("arch", "string", "Set architecture"),
            Flag("os", "string", "Set operating system"),
            Flag("os-features", "strings", "Set operating system feature"),
            Flag("os-version", "string", "Set operating system version"),
            Flag("variant", "string", "Set architecture variant"),
        ),
        least=2,
        most=2,
    ),
    "manifest create": Command(
        "MANIFEST_LIST MANIFEST [MANIFEST...]",
        create,
        (Flag("amend", "bool", "Amend an existing manifest list", short="a"), INSECURE),
        least=2,
        most=None,
    ),
    "manifest inspect": Command(
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        inspect,
        (INSECURE, Flag("verbose", "bool", "Output additional info including layers and platform", short="v")),
        least=1,
        most=2,
    ),
    "manifest push": Command(
        "[OPTIONS] MANIFEST_LIST",
        push,
        (INSECURE, Flag("purge", "bool", "Remove the local manifest list after push", short="p")),
        least=1,
        most=1,
    ),
    "manifest rm": Command("MANIFEST_LIST [MANIFEST_LIST...]", remove, least=1, most=None),
}
