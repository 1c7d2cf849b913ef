"""The list ``--security-opt`` as keys and values."""

from __future__ import annotations

from boxship.spec.docker.container import HostConfig


def security_options(host: HostConfig) -> list[tuple[str, str]]:
    """Return key and value of each security option; old clients put a colon where others have an equals sign.

    A bare ``no-new-privileges`` has the value ``true``, other bare words none.
    """
    options = []
    for option in host.security_opt or []:
        key, separator, value = option.partition("=" if "=" in option else ":")
        options.append((key, value if separator or key != "no-new-privileges" else "true"))
    return options
