"""The built-in image ``hello-world``: a first run needs no registry, no archive and no network."""

from __future__ import annotations

import io
import tarfile

from boxship.images import elf
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.oci import History, ImageConfig, RootFS, digest_of, encode_config

NAME = "docker.io/library/hello-world:latest"
_CREATED = "2026-01-01T00:00:00Z"  # fixed, so that the image has the same id everywhere
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

TEXT = b"""
Hello from Boxship!
This message shows that your installation appears to be working correctly.

To generate this message, Boxship took the following steps:
 1. The client contacted the Boxship engine.
 2. The engine took the "hello-world" image that is built into it
    (or that was loaded or pulled before).
 3. The engine created a new container from that image which runs the
    program that produces the output you are currently reading.
 4. The engine streamed that output to the client, which sent it
    to your terminal.

To try something more ambitious, make a Debian image and run a shell in it:
 $ boxship image bootstrap debian:bookworm
 $ boxship run -it debian:bookworm bash

"""


def layer(architecture: str) -> bytes:
    """Return the tar of the only layer: ``/hello``."""
    program = elf.printer(TEXT, architecture)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo("hello")
        member.size = len(program)
        member.mode = 0o755
        tar.addfile(member, io.BytesIO(program))
    return out.getvalue()


def config(architecture: str, tar: bytes) -> bytes:
    """Return the configuration document for that layer."""
    return encode_config(
        ImageConfig(
            created=_CREATED,
            architecture=architecture,
            variant="v8" if architecture == "arm64" else "",
            os="linux",
            config=ContainerConfig(cmd=["/hello"], env=[_PATH], working_dir="/"),
            rootfs=RootFS(diff_ids=[digest_of(tar)]),
            history=[
                History(created=_CREATED, created_by="COPY hello / # buildkit", comment="built into Boxship"),
                History(created=_CREATED, created_by='CMD ["/hello"]', comment="built into Boxship", empty_layer=True),
            ],
        )
    )
