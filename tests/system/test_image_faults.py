"""I1, I2, C6: layers that work together against the host, and far too many entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import hostile
from harness.engine import Engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ENTRIES = 8_000


def test_i1_i2_a_layer_does_not_write_through_another_ones_links(engine: Engine, tmp_path: Path) -> None:
    """Layers are unpacked each into a root of its own, whatever a lower one has put in their way."""
    with hostile.unchanged(tmp_path / "sentinel") as outside:
        layers = [
            hostile.tar([*hostile.busybox_without(), hostile.link("d", str(outside)), hostile.link("e", "d")]),
            hostile.tar([hostile.entry("d/new", b"evil"), hostile.entry("e/file", b"evil", mode=0o4777, uid=1000)]),
            hostile.tar([hostile.entry("d/.wh.file"), hostile.entry("e/.wh..wh..opq")]),
        ]
        said = hostile.load(engine, hostile.archive({}, layers, "together"))
        assert said.startswith("200") and "error" not in said, said
        assert not (outside / "new").exists()
        # As with Docker, the directory of the upper layer has taken the link's place.
        assert hostile.run(engine, "together", "sh", "-c", "test -d d -a ! -L d && ls d").text == "new\n"


def test_c6_many_entries_cost_no_memory(engine: Engine) -> None:
    status = Path(f"/proc/{hostile.daemon_pid(engine)}/status")

    def peak() -> int:
        return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))

    data = hostile.tar(hostile.entry(f"{n % 100}/{n}") for n in range(ENTRIES))
    before = peak()
    said = hostile.bring(engine, "many", data)
    assert said.startswith("200") and "error" not in said, said
    assert peak() < before + (48 << 10)
    assert engine.docker("rmi", "many").returncode == 0
