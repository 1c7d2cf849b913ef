"""``image push``: upload an image to a registry."""

from __future__ import annotations

from boxship.cli.command import STDOUT, Command
from boxship.cli.credentials import registry_auth
from boxship.cli.flags import Flag
from boxship.cli.progress import Progress
from boxship.cli.pulling import asked
from boxship.cli.reference import platform_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("all-tags", "bool", "Push all tags of an image to the repository", short="a"),
    Flag("disable-content-trust", "bool", "Skip image signing", default=True, shown="(default true)"),
    Flag(
        "platform",
        "string",
        "Push a platform-specific manifest as a single-platform image to the registry.\n"
        "Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n"
        "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
    Flag("quiet", "bool", "Suppress verbose output", short="q"),
)


def run(session: Session, values: Values) -> int:
    """Push one tag, or all tags of the repository; or images to the engine of another host."""
    if values.arguments[0].startswith("ssh://"):
        from boxship.cli import shipping

        return shipping.push(session, values.arguments[0], values.arguments[1:], quiet=values.is_set("quiet"))
    all_tags, quiet = values.is_set("all-tags"), values.is_set("quiet")
    reference = asked(session, values.arguments[0], all_tags=all_tags, quiet=quiet)
    query: dict[str, object] = {} if all_tags else {"tag": reference.tag or reference.digest}
    if values.text("platform"):
        session.engine.require("1.46", "--platform")
        query["platform"] = platform_json(values.text("platform"))
    headers = {"X-Registry-Auth": registry_auth(session, reference.domain)}
    path = f"/images/{reference.name}/push"
    messages = session.engine.messages(session.engine.stream("POST", path, query, headers=headers))
    if quiet:
        for message in messages:
            if message.get("error"):
                Progress(STDOUT).show([message])
        session.line(reference.name + reference.suffix)
        return 0
    for note in Progress(STDOUT).show(messages):
        if note.get("manifestPushedInsteadOfIndex"):
            session.error(
                "\nNot all multiplatform-content is present and only the available single-platform image was pushed\n"
                f"{note['originalIndex']['digest']} -> {note['selectedManifest']['digest']}"
            )
    return 0


COMMANDS = {"image push": Command("[OPTIONS] NAME[:TAG]", run, FLAGS, least=1, most=1, over_ssh=True)}
