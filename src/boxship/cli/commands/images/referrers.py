"""``image referrers``: signatures and other artifacts that refer to an image in its registry."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError
from boxship.cli.credentials import registry_auth
from boxship.cli.flags import Flag
from boxship.cli.reference import parse
from boxship.cli.table import Listing
from boxship.cli.units import decimal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (Flag("format", "string", "Format output using a custom template"),)


def run(session: Session, values: Values) -> int:
    """Print what refers to the image."""
    try:
        reference = parse(values.arguments[0]).tagged()
    except ValueError as exc:
        raise ExitError(str(exc)) from exc
    headers = {"X-Registry-Auth": registry_auth(session, reference.domain)}
    path = f"/boxship/images/{reference.name}{reference.suffix}/referrers"
    from boxship.client import jsontext

    found = jsontext.loads(session.engine.stream("GET", path, headers=headers).read())
    listing = Listing(
        "*referrers.Context",
        {
            "Digest": ("DIGEST", lambda row: str(row["Digest"])),
            "ArtifactType": ("ARTIFACT TYPE", lambda row: str(row["ArtifactType"]) or "<none>"),
            "Size": ("SIZE", lambda row: decimal_size(row["Size"], 3)),
            "Tag": ("TAG", lambda row: str(row["Tag"])),
        },
        ("Digest", "ArtifactType", "Size"),
        "Digest",
    )
    listing.show(session, found["Referrers"], values.text("format"))
    return 0


COMMANDS = {"image referrers": Command("[OPTIONS] NAME[:TAG|@DIGEST]", run, FLAGS, least=1, most=1)}
