"""What can go wrong, by what the caller can do about it.

The text is for the person, in Docker's wording, with the name at fault. ``api.errors`` maps the classes to HTTP once, the
command line maps HTTP to exit codes once. Packages derive their own classes from these (``NoSuchContainer(NotFound)``).
"""


class BoxshipError(Exception):
    """Base of all errors that are answers; anything else that escapes is a bug."""


class InvalidInput(BoxshipError):
    """The request itself is wrong; repeating it does not help (400)."""


class Unauthorized(BoxshipError):
    """Who you are is not known here (401)."""


class Forbidden(BoxshipError):
    """You are known and may not do this, or nobody may (403)."""


class NotFound(BoxshipError):
    """The named object does not exist (404)."""


class Conflict(BoxshipError):
    """The object's state or another object stands in the way (409)."""


class NotSupported(BoxshipError):
    """Boxship or this host cannot do that (501)."""


class Unavailable(BoxshipError):
    """Not now: try again later (503)."""


class DeadlineExceeded(Unavailable):
    """An operation ran into its deadline; its object is unchanged or will be repaired."""


class SystemFailure(BoxshipError):
    """The host refused: disk, kernel, a program that failed (500)."""
