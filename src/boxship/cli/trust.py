"""Content trust (``DOCKER_CONTENT_TRUST``, ``--disable-content-trust=false``): asked for, it is never passed over in silence.

There is no notary client here, so nothing that a tag names can be verified. A digest verifies itself.
"""

from __future__ import annotations

import os

from boxship.cli.command import ExitError
from boxship.cli.flags import parse_bool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.flags import Values

_FLAG = "disable-content-trust"


def check(values: Values, image: str, status: int = 1) -> None:
    """Raise ExitError when the image would have to be verified and its name has no digest."""
    if _wanted(values) and "@" not in image:
        raise ExitError(
            f"content trust is on, and signatures of {image} cannot be verified here: name the image by its digest "
            "(NAME@sha256:...), or give --disable-content-trust",
            status,
        )


def _wanted(values: Values) -> bool:
    if _FLAG in values.changed:
        return not values.is_set(_FLAG)
    setting = os.environ.get("DOCKER_CONTENT_TRUST", "")
    try:
        return bool(setting) and parse_bool(setting)
    except ValueError:
        return True  # as docker: whoever writes anything wants it
