"""``image verify``: build an image again, without a cache, and say where the result differs."""

from __future__ import annotations

import os

from boxship.cli.building import recorded
from boxship.cli.building.flags import FLAGS as BUILD
from boxship.cli.building.secrets import agents
from boxship.cli.building.watch import finish, show_nothing, watch
from boxship.cli.command import STDERR, Command
from boxship.cli.commands.images.build import build_request
from boxship.cli.flags import Flag
from boxship.client.engine import quote
from boxship.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

# What is about a result's place or the cache means nothing here.
_LEFT_OUT = (
    *("attest", "cache-from", "cache-to", "call", "check", "debug", "iidfile", "load", "metadata-file", "no-cache"),
    *("no-cache-filter", "output", "provenance", "push", "sbom", "tag", "why"),
)
FLAGS = (
    *(flag for flag in BUILD if flag.long not in _LEFT_OUT),
    Flag("ignore-times", "bool", "Take images that differ in nothing but times for identical"),
)


def run(session: Session, values: Values) -> int:
    """Rebuild and compare; the status is 1 when there is a difference."""
    image, context = values.arguments
    expected = session.engine.json("GET", f"/images/{quote(image, '/:@')}/json")["Id"]
    flags = {flag.long: flag for flag in BUILD}
    options = values.among(BUILD)
    predicate = recorded.provenance(session, image)
    taken = recorded.apply(predicate, options, flags, context) if predicate is not None else []
    if taken:
        session.error(f"From the provenance of {image}: {' '.join(taken)}")
    options.set(flags["no-cache"], "true")
    before = {row["Id"] for row in session.engine.json("GET", "/images/json", {"all": "1"})}
    options.arguments = [context]
    made: list[str] = []
    try:
        built = _build(session, options, made)
        found = session.engine.json("GET", "/boxship/build/compare", {"image": expected, "with": built})
    finally:
        _remove(session, [id for id in reversed(made) if id not in before])
    if found["Identical"]:
        session.line(f"{image} is identical to what is built now: {built}")
        return 0
    if found["OnlyTimes"] and values.is_set("ignore-times"):
        session.line(f"{image} is identical to what is built now, but for times")
        return 0
    session.line(f"{image} differs from what is built now: {_words(found['Difference'])}")
    if found["OnlyTimes"]:
        session.line("Only times differ: build it with --build-arg SOURCE_DATE_EPOCH, or verify with --ignore-times.")
    return 1


def _build(session: Session, values: Values, made: list[str]) -> str:
    """Build without a name; return the image's id, and put those of all steps into ``made``. Raises ExitError."""
    with agents(values.many("ssh")) as ssh:
        query, headers, body = build_request(session, values, [], ssh, announced=False)
        reader = session.engine.stream("POST", f"/boxship/build?{query}", body=body, headers=headers)
        events = _noted(session.engine.messages(reader), made)
        mode = "quiet" if values.is_set("quiet") else values.text("progress")
        if mode == "quiet":
            return finish(show_nothing(events))
        live = mode == "tty" or (mode == "auto" and os.isatty(STDERR))
        return finish(watch(events, STDERR, live=live, why=False))


def _noted(events: Iterator[dict[str, Any]], made: list[str]) -> Iterator[dict[str, Any]]:
    for event in events:
        if event.get("event") in ("stepdone", "built") and event.get("image") and event["image"] not in made:
            made.append(event["image"])
        yield event


def _remove(session: Session, images: list[str]) -> None:
    """Remove what was built for this alone; what got a name, a container or a child meanwhile stays."""
    for image in images:
        try:
            if not session.engine.json("GET", f"/images/{image}/json")["RepoTags"]:
                session.engine.json("DELETE", f"/images/{image}", {"noprune": "1"})
        except ApiError as exc:
            if exc.status not in (404, 409):
                raise


def _words(difference: dict[str, Any]) -> str:
    """Return where and how two images differ: what the image has, then what is built now."""
    aspect, first, second = difference["Aspect"], difference["First"], difference["Second"]
    if not difference["Layer"]:
        return f"configuration: {difference['Path']} is {first}, now {second}"
    if aspect == "layers":
        return f"it has {first} layers, now {second}"
    by = f" ({difference['CreatedBy']})" if difference["CreatedBy"] else ""
    where = f"layer {difference['Layer']} of {difference['Layers']}{by}: "
    if aspect == "archive":
        return f"{where}the files are the same, their archive is {first}, now {second}"
    path = f"/{difference['Path']}"
    if aspect == "missing":
        return f"{where}{path} ({first}) is not there now"
    if aspect == "added":
        return f"{where}{path} ({second}) is new"
    return f"{where}{path}: {aspect} is {first}, now {second}"


COMMANDS = {"image verify": Command("[OPTIONS] IMAGE PATH | URL | -", run, FLAGS, least=2, most=2)}
