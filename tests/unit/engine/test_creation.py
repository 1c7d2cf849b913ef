"""What an image must be for, to become a container here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from boxship.base.errors import InvalidInput, NotFound
from boxship.engine.creation import check_platform
from boxship.images import platform

HERE = platform.host().architecture
OTHER = "s390x" if HERE != "s390x" else "amd64"


def image(os: str, architecture: str) -> SimpleNamespace:
    return SimpleNamespace(os=os, architecture=architecture)


@pytest.mark.row("RUN-45")
def test_a_platform_that_was_asked_for_must_be_the_images() -> None:
    assert check_platform("x", image("linux", OTHER), f"linux/{OTHER}") == []
    assert check_platform("x", image("linux", HERE), "linux") == []
    with pytest.raises(NotFound, match="image with reference x was found but does not provide the specified platform"):
        check_platform("x", image("linux", HERE), f"linux/{OTHER}")


@pytest.mark.row("RUN-45")
def test_a_foreign_architecture_is_warned_of_and_a_foreign_system_refused() -> None:
    assert check_platform("x", image("linux", HERE), None) == check_platform("x", image("", ""), None) == []
    [warning] = check_platform("x", image("linux", OTHER), None)
    assert warning == (
        f"The requested image's platform (linux/{OTHER}) does not match the detected host platform (linux/{HERE}) "
        "and no specific platform was requested"
    )
    with pytest.raises(InvalidInput, match='image operating system "windows" cannot be used on this platform'):
        check_platform("x", image("windows", "amd64"), None)
