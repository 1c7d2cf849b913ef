"""TLS towards registries: ``<directory>/<host[:port]>/{*.crt,*.cert,*.key}`` as Docker lays them out."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from boxship.base.errors import SystemFailure
from boxship.registry.client.hosts import Endpoint


def context(endpoint: Endpoint, directories: Sequence[str]) -> ssl.SSLContext:
    """Return the TLS settings for an endpoint; reads files. Raises SystemFailure that names the file at fault.

    ``*.crt`` are certificates to trust, each ``NAME.cert`` with its ``NAME.key`` is one to show.
    """
    found = ssl.create_default_context()
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    if not endpoint.verify:
        found.check_hostname = False
        found.verify_mode = ssl.CERT_NONE
    if endpoint.ca:
        _load(found, endpoint.ca)
    for directory in directories:
        place = os.path.join(directory, endpoint.host)
        try:
            names = sorted(os.listdir(place))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise SystemFailure(f"open {place}: {(exc.strerror or str(exc)).lower()}") from exc
        for name in names:
            path = os.path.join(place, name)
            stem, extension = os.path.splitext(path)
            if extension == ".crt":
                _load(found, path)
            elif extension == ".cert":
                if not os.path.exists(f"{stem}.key"):
                    raise SystemFailure(
                        f"missing key {os.path.basename(stem)}.key for client certificate {name}. CA certificates must use the extension .crt"
                    )
                try:
                    found.load_cert_chain(path, f"{stem}.key")
                except (OSError, ssl.SSLError) as exc:
                    raise SystemFailure(f"client certificate {path}: {exc}") from exc
            elif extension == ".key" and not os.path.exists(f"{stem}.cert"):
                raise SystemFailure(f"missing client certificate {os.path.basename(stem)}.cert for key {name}")
    return found


def _load(found: ssl.SSLContext, path: str) -> None:
    try:
        found.load_verify_locations(path)
    except (OSError, ssl.SSLError) as exc:
        raise SystemFailure(f"certificate {path}: {exc}") from exc
