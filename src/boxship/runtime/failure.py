"""The one error of the runtime, and the words it uses for the kernel's refusals."""

import os

COMMAND_NOT_EXECUTABLE = 126
COMMAND_NOT_FOUND = 127
START_FAILED = 128


class RuntimeFailure(Exception):
    """A container or process could not be started.

    ``message`` is runc's wording without a final full stop; ``code`` is what a shell would report: 126 (found, not
    executable), 127 (not found), 128 (anything else).
    """

    def __init__(self, message: str, code: int = START_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Killed(RuntimeFailure):
    """The process was ended by somebody else before it could become the program, or its container was."""


def reason(exc: OSError) -> str:
    """Return the kernel's reason in the lower case that the texts around it use: ``no such file or directory``."""
    text = os.strerror(exc.errno) if exc.errno else str(exc)
    return text[:1].lower() + text[1:]
