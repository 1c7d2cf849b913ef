"""``image pull``: download an image from a registry."""

from __future__ import annotations

import os

from boxship.cli import trust
from boxship.cli.command import STDOUT, Command
from boxship.cli.flags import Flag
from boxship.cli.pulling import asked, pull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("all-tags", "bool", "Download all tagged images in the repository", short="a"),
    Flag("disable-content-trust", "bool", "Skip image verification", default=True, shown="(default true)"),
    Flag("platform", "string", "Set platform if server is multi-platform capable"),
    Flag("quiet", "bool", "Suppress verbose output", short="q"),
)


def run(session: Session, values: Values) -> int:
    """Pull one image, or all tags of its repository; or images from the engine of another host."""
    if values.arguments[0].startswith("ssh://"):
        from boxship.cli import shipping

        return shipping.pull(session, values.arguments[0], values.arguments[1:], quiet=values.is_set("quiet"))
    trust.check(values, values.arguments[0])
    all_tags, quiet = values.is_set("all-tags"), values.is_set("quiet")
    reference = asked(session, values.arguments[0], all_tags=all_tags, quiet=quiet)
    platform = values.text("platform") or os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    pull(session, reference, descriptor=STDOUT, platform=platform, all_tags=all_tags, quiet=quiet)
    session.line(reference.name + reference.suffix)
    return 0


COMMANDS = {"image pull": Command("[OPTIONS] NAME[:TAG|@DIGEST]", run, FLAGS, least=1, most=1, over_ssh=True)}
