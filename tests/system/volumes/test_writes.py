"""What a write costs: in the writable layer a copy of the whole file, in a volume the write."""

from __future__ import annotations

import pytest

from harness.engine import Engine

pytestmark = pytest.mark.system
SIZE = 8 << 20


@pytest.mark.row("VOL-20")
def test_a_write_to_a_file_of_the_image_copies_it_in_the_layer_and_not_in_a_volume(engine: Engine) -> None:
    script = f"mkdir /data; head -c {SIZE} /dev/urandom > /data/big"
    engine.docker("run", "--name", "made", "busybox", "sh", "-c", script)
    engine.docker("commit", "made", "big")
    words = ("big", "sh", "-c", "echo >> /data/big; sleep 999")
    engine.docker("run", "-d", "--name", "layer", *words)
    engine.docker("run", "-d", "--name", "volume", "-v", "db:/data", *words)
    for name, copied in (("layer", True), ("volume", False)):
        engine.docker("exec", name, "sh", "-c", f"until [ $(stat -c %s /data/big) -gt {SIZE} ]; do usleep 10000; done")
        size = engine.api("GET", f"/containers/{name}/json?size=1")[1]["SizeRw"]
        assert (size > SIZE) is copied
    engine.docker("rm", "-f", "made", "layer", "volume")
    engine.docker("volume", "rm", "db")
    engine.docker("rmi", "big")
