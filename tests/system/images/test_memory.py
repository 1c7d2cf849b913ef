"""The daemon's memory does not grow with the images that it handles; ``scripts/archives`` does this with 1 GB."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

import pytest

from harness import image_memory
from harness.engine import Engine
from harness.registry import PeerRegistry

pytestmark = pytest.mark.system

NAME = "localhost:5000/large:1"
BOUND = 60 * 1024  # KiB


def write_archive(path: Path, layers: int, size: int) -> None:
    """Write a docker-archive of an image with one file of ``size`` bytes in each layer."""
    noise = random.Random(3).randbytes(size // 2) + bytes(size // 2)
    diff_ids = []
    with tarfile.open(path, "w") as archive:

        def add(name: str, data: bytes, *, to: tarfile.TarFile = archive) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            to.addfile(member, io.BytesIO(data))

        for number in range(layers):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as layer:
                add(f"file{number}", noise, to=layer)
            diff_ids.append(f"sha256:{hashlib.sha256(out.getvalue()).hexdigest()}")
            add(f"{number}/layer.tar", out.getvalue())
        config = {"os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        add("config.json", json.dumps(config).encode())
        paths = [f"{number}/layer.tar" for number in range(layers)]
        add("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [NAME], "Layers": paths}]).encode())


@pytest.mark.row("IMG-14")
def test_an_image_of_200_mb_is_handled_in_little_memory(engine: Engine, tmp_path: Path) -> None:
    try:
        registry = PeerRegistry(engine.namespace)
    except RuntimeError as exc:
        pytest.skip(str(exc))
    try:
        write_archive(tmp_path / "archive.tar", 4, 50_000_000)
        grown = image_memory.growth(engine, tmp_path / "archive.tar", NAME)
    finally:
        registry.close()
    assert max(grown.values()) < BOUND, grown
