"""Every byte of the data root is explained; what is damaged or left over is found, repaired, and nothing else touched."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.linux import mount
from harness import hostile
from harness.engine import Engine

pytestmark = pytest.mark.system

PAYLOAD = b"payload of the layer\n" * 5000


@pytest.fixture
def own() -> Iterator[Engine]:
    own = Engine()
    own.start()
    entries = [*hostile.busybox_without(), hostile.entry("payload", PAYLOAD), hostile.entry("other", b"x")]
    said = hostile.bring(own, "base", hostile.tar(entries), 'CMD ["sh"]')
    assert said.startswith("200"), said
    yield own
    own.close()


def du(path: Path) -> int:
    return int(
        subprocess.run(["du", "-sx", "-B1", str(path)], check=True, capture_output=True, text=True).stdout.split()[0]
    )


def fsck(own: Engine, *options: str) -> tuple[int, list[str]]:
    result = own.boxship("system", "fsck", *options, check=False)
    assert not result.stderr, result.stderr
    return result.returncode, result.stdout.splitlines()


def layer_file(own: Engine, name: str) -> Path:
    (path,) = (own.data_root / "overlay2").glob(f"*/diff/{name}")
    return path


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, keeping its times as rot does."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def layer_blob(own: Engine) -> Path:
    return max((own.data_root / "content/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.row("MON-15")
def test_usage_explains_what_du_finds(own: Engine) -> None:
    hostile.start(own, "base", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=3; seq 100000; exec sleep 1000")
    id = hostile.create(own, "base", "true", HostConfig={"Binds": ["data:/data"]})
    hostile.until(lambda: "100000" in own.docker("logs", "--tail=1", own.docker("ps", "-q").stdout.strip()).stdout)
    (own.data_root / "volumes/data/_data/file").write_bytes(bytes(2_000_000))
    ingest = own.data_root / f"content/ingest/partial-sha256-{'ab' * 32}"
    ingest.write_bytes(bytes(100_000))
    found = du(own.data_root)
    status, disk = own.api("GET", "/boxship/disk")
    assert status == 200
    assert abs(disk["Total"] - found) <= found / 100
    kinds: dict[str, int] = {}
    for part in disk["Parts"]:
        kinds[part["Kind"]] = kinds.get(part["Kind"], 0) + part["Size"]
    assert "unknown" not in kinds and "leftover" not in kinds, disk["Parts"]
    assert kinds["volume"] >= 2_000_000
    assert kinds["container log"] >= 500_000
    assert kinds["writable layer"] >= 3 << 20
    assert kinds["interrupted download"] >= 100_000
    shown = own.boxship("system", "df", "-v").stdout
    assert re.search(r"^container log +1 +\S+ +container prune$", shown, re.MULTILINE), shown
    assert id[:12] in shown


def test_a_sound_data_root_has_no_findings(own: Engine) -> None:
    hostile.start(own, "base", "sleep", "1000")
    hostile.create(own, "base", "true")
    assert fsck(own) == (0, ["nothing is wrong"])


def test_a_flipped_bit_in_a_layer_is_found_and_unpacked_anew(own: Engine) -> None:
    flip(layer_file(own, "payload"))
    layer_file(own, "other").unlink()
    code, lines = fsck(own)
    assert code == 4
    assert [line.partition(": ")[2] for line in lines[:-1]] == ["other is missing", "payload has other content"]
    assert fsck(own, "--quick") == (0, ["nothing is wrong"])
    code, lines = fsck(own, "--repair")
    assert code == 1, lines
    assert all(line.endswith("[unpacked anew]") for line in lines[:-1])
    assert layer_file(own, "payload").read_bytes() == PAYLOAD
    assert fsck(own) == (0, ["nothing is wrong"])
    assert hostile.run(own, "base", "cat", "/other").text == "x"


def test_layers_of_running_containers_are_left(own: Engine) -> None:
    id = hostile.start(own, "base", "sleep", "1000")
    flip(layer_file(own, "payload"))
    code, lines = fsck(own, "--repair")
    assert code == 4
    assert "left: snapshot" in lines[0] and "is in use by a running container" in lines[0]
    assert hostile.exec_(own, id, "cat", "/other").text == "x"
    hostile.call(own, "DELETE", f"/containers/{id}?force=1")
    assert fsck(own, "--repair")[0] == 1
    assert fsck(own)[0] == 0


def test_a_damaged_blob_is_removed_and_the_image_can_be_loaded_again(own: Engine) -> None:
    archive = hostile.call(own, "GET", "/images/base/get")[1]
    assert isinstance(archive, bytes)
    flip(layer_blob(own))
    flip(layer_file(own, "payload"))
    code, lines = fsck(own, "--repair")
    assert code in (1, 4)
    assert any("its content is not the one that the digest names [removed; pull or load" in line for line in lines), (
        lines
    )
    assert "200" in hostile.load(own, archive)
    assert layer_file(own, "payload").read_bytes() == PAYLOAD
    assert fsck(own) == (0, ["nothing is wrong"])
    assert hostile.run(own, "base", "true").code == 0


def test_orphans_and_stale_mounts_are_found_offline_and_removed(own: Engine) -> None:
    id = hostile.create(own, "base", "true")
    assert own.stop() == 0
    assert own.boxship("system", "fsck", "--offline", str(own.data_root)).stdout == "nothing is wrong\n"
    blob = own.data_root / "content/blobs/sha256" / ("ab" * 32)
    blob.write_bytes(b"nobody's")
    merged = next((own.data_root / "overlay2").glob("*/merged"))
    mount.mount("tmpfs", str(merged), "tmpfs", 0, "size=1m")
    try:
        result = own.boxship("system", "fsck", "--offline", str(own.data_root), check=False)
        assert result.returncode == 4
        assert f"blob sha256:{blob.name}: no row names this file\n" in result.stdout
        assert f"mount {merged}: no running container uses it\n" in result.stdout
        assert blob.exists()
        result = own.boxship("system", "fsck", "--offline", str(own.data_root), "--repair", check=False)
        assert result.returncode == 1, result.stdout
        assert not blob.exists()
        assert not os.path.ismount(merged)
    finally:
        if os.path.ismount(merged):
            mount.umount2(str(merged), mount.MNT_DETACH)
    own.start()
    assert hostile.inspect(own, id)["State"]["Status"] == "created"
    result = own.boxship("system", "fsck", "--offline", str(own.data_root), check=False)
    assert result.returncode == 8
    assert "is used by another boxshipd" in result.stderr
