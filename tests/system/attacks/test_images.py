"""Archives and image configurations from strangers, on the whole engine (C6, I3, I4, I5, I8, F5)."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import sqlite3
import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import hostile
from harness.engine import Engine
from harness.hostile import archive, busybox_without, directory, entry, link, tar
from harness.hostile_archives import raw_header, tricks

pytestmark = pytest.mark.system


def stored(engine: Engine) -> dict[str, Any]:
    """What of images is on the disk and known."""
    return {
        "blobs": sorted(os.listdir(engine.data_root / "content/blobs/sha256")),
        "ingests": os.listdir(engine.data_root / "content/ingest"),
        "snapshots": sorted(os.listdir(engine.data_root / "overlay2")),
        "images": sorted(row["Id"] for row in engine.api("GET", "/images/json?all=1")[1]),
        "spools": [name for name in os.listdir(engine.data_root) if "spool" in name or "load" in name or "tmp" in name],
    }


@pytest.fixture
def nothing_stored(engine: Engine) -> Iterator[None]:
    assert hostile.run(engine, "busybox", "true").code == 0  # its layer of mount points is there now
    before = stored(engine)
    yield
    hostile.until(lambda: stored(engine) == before, lambda: (before, stored(engine)), 10)


@pytest.mark.parametrize("way", ["import", "load"])
def test_c6_tar_streams(engine: Engine, tmp_path: Path, way: str) -> None:
    with hostile.unchanged(tmp_path / "sentinel") as outside:
        for name, data in tricks(outside).items():
            before = stored(engine)
            if way == "import":
                said = hostile.bring(engine, "trick", data)
            else:
                said = hostile.load(engine, archive({"Cmd": ["x"]}, [data], "trick"))
            taken = said.startswith("200") and "error" not in said
            assert not (name.startswith("bad") and taken), (name, said)
            assert "Error: " not in said.split("Error processing")[0], (name, said)  # a Python exception's name: a bug
            assert hostile.picture(outside) and not (outside / "new").exists()
            if taken:
                assert hostile.create(engine, "trick", "x")
                assert hostile.call(engine, "POST", "/containers/prune")[0] == 200
                assert hostile.call(engine, "DELETE", "/images/trick?force=1")[0] == 200
            hostile.until(lambda before=before: stored(engine) == before, lambda name=name: name, 10)


def test_c6_overlay_attributes_of_a_layer_do_not_lead_out(engine: Engine, tmp_path: Path) -> None:
    with hostile.unchanged(tmp_path / "sentinel") as outside:
        redirect = {"SCHILY.xattr.trusted.overlay.redirect": f"/../../../../../..{outside}"}
        layer = tar([*busybox_without(), entry("r", type=tarfile.DIRTYPE, pax_headers=redirect)])
        said = hostile.load(engine, archive({}, [tar([directory("r"), entry("r/low", b"x")]), layer], "redirect"))
        if said.startswith("200") and "error" not in said:
            assert hostile.run(engine, "redirect", "ls", "/r").text in ("", "low\n")


def test_c6_load_archives_with_path_tricks(engine: Engine, nothing_stored: None, tmp_path: Path) -> None:
    with hostile.unchanged(tmp_path / "sentinel") as outside:
        layer = tar([entry("x", b"x")])
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
        ).encode()
        for path in (str(outside / "file"), f"../../../../../..{outside}/file", "link", "hard", "/etc/passwd"):
            rows = [{"Config": path, "RepoTags": None, "Layers": ["layer.tar"]}]
            files = [
                link("link", str(outside / "file")),
                entry("hard", type=tarfile.LNKTYPE, linkname=str(outside / "file")),
                entry("layer.tar", layer),
                entry("config.json", config),
                entry("manifest.json", json.dumps(rows).encode()),
            ]
            said = hostile.load(engine, tar(files))
            assert "error" in said or not said.startswith("200"), (path, said)
            assert "untouched" not in said


@pytest.mark.timeout(110)
@pytest.mark.parametrize("kind", ["gzip", "gzip members", "nested"])
def test_i3_decompression_bombs(engine: Engine, nothing_stored: None, kind: str) -> None:
    """Two hundred and fifty megabytes of zeros in as many kilobytes; memory stays flat and nothing is left.

    A layer may be as large as the disk: what stops a larger one is the disk's end, which is test_f3's.
    """
    size = int(os.environ.get("BOXSHIP_BOMB_BYTES", 1 << 28))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = packer.compress(raw_header(b"zeros", b"%011o\0" % (size + 1)))
    chunk = bytes(1 << 20)
    # One megabyte compresses to a kilobyte of deflate blocks, repeated after a flush: making the bomb is cheap.
    piece += packer.flush(zlib.Z_FULL_FLUSH)
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    repeated = block.compress(chunk) + block.flush(zlib.Z_FULL_FLUSH)
    bomb = piece + repeated * (size >> 20)
    if kind == "gzip members":
        bomb = gzip.compress(bytes(512), 9) * 300_000
    if kind == "nested":
        bomb = gzip.compress(bomb[: 4 << 20])
    before = memory(engine)
    began = time.monotonic()
    said = hostile.bring(engine, "bomb", bomb)
    assert time.monotonic() - began < 100
    # Many members are one stream, and their zeros the end of an archive: an empty layer.
    assert "error" in said or not said.startswith("200") or kind == "gzip members", said
    assert hostile.call(engine, "DELETE", "/images/bomb?force=1")[0] in (200, 404)
    assert memory(engine) < before + (150 << 10), "memory grew with the bomb"
    assert hostile.run(engine, "busybox", "true").code == 0


def memory(engine: Engine) -> int:
    """The daemon's peak memory so far in KiB, so that what was freed meanwhile counts too."""
    status = Path(f"/proc/{hostile.daemon_pid(engine)}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def document(text: str) -> bytes:
    layer = tar([entry("x", b"x")])
    return archive({}, [layer], "doc", document=text.replace("DIFF", hashlib.sha256(layer).hexdigest()).encode())


CONFIG = '"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:DIFF"]}'


@pytest.mark.parametrize(
    "text",
    [
        "{" + CONFIG + ',"config":' + "[" * 100_000 + "]" * 100_000 + "}",
        "{" + CONFIG + ',"config":{},"config":{"User":"root"}}',
        "{" + CONFIG + ',"x":' + "9" * 1_000_000 + "}",
        "{" + CONFIG + ',"config":{"Env":["' + "A" * (5 << 20) + '"]}}',
        "{" + CONFIG + ',"config":{"StopTimeout":1e999}}',
        "{" + CONFIG.replace("sha256:DIFF", "sha256:../../x") + "}",
        "{" + CONFIG.replace("DIFF", "0" * 64) + "}",
        "{" + CONFIG.replace("sha256:DIFF", "md5:DIFF") + "}",
        "[]",
        "\xff",
        "",
    ],
    ids=["nested", "duplicate", "number", "large", "infinite", "path", "other", "algorithm", "list", "utf-8", "empty"],
)
def test_i3_i4_i5_hostile_documents(engine: Engine, nothing_stored: None, text: str) -> None:
    began = time.monotonic()
    said = hostile.load(engine, document(text))
    assert "error" in said or not said.startswith("200"), said
    assert time.monotonic() - began < 30
    assert "Traceback" not in engine.log_text()[-3000:]


def layout(mutate: str) -> bytes:
    """Return an OCI image layout with one lie in it."""
    layer = tar([entry("x", b"x")])
    blobs: dict[str, bytes] = {}

    def put(data: bytes, media: str, **fields: Any) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data), **fields}

    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    config = put(
        json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode(),
        "application/vnd.oci.image.config.v1+json",
    )
    layers = [put(layer, "application/vnd.oci.image.layer.v1.tar")]
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": layers,
    }
    if mutate == "both":
        manifest["manifests"] = [layers[0]]
    if mutate == "media type":
        manifest["mediaType"] = "application/vnd.oci.image.index.v1+json"
    if mutate == "layer size":
        layers[0]["size"] += 1
    if mutate == "config size":
        config["size"] -= 1
    if mutate == "algorithm":
        layers[0]["digest"] = "sha256:../../../../etc/passwd"
    if mutate == "layer digest":
        blobs[layers[0]["digest"].partition(":")[2]] = tar([entry("y", b"y")])
    if mutate == "truncated":
        key = layers[0]["digest"].partition(":")[2]
        blobs[key] = blobs[key][:-512]
    top = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    if mutate == "config digest":
        blobs[config["digest"].partition(":")[2]] += b" "
    if mutate == "manifest digest":
        blobs[top["digest"].partition(":")[2]] += b" "
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [top]}
    files = [entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), entry("index.json", json.dumps(index).encode())]
    return tar([*files, *(entry(f"blobs/sha256/{digest}", data) for digest, data in blobs.items())])


@pytest.mark.parametrize(
    "mutate",
    [
        "both",
        "media type",
        "layer size",
        "config size",
        "algorithm",
        "layer digest",
        "truncated",
        "config digest",
        "manifest digest",
    ],
)
def test_i4_i5_a_layout_that_lies(engine: Engine, nothing_stored: None, mutate: str) -> None:
    said = hostile.load(engine, layout(mutate))
    assert "error" in said or not said.startswith("200"), said


def test_i5_the_layout_without_a_lie_is_taken(engine: Engine) -> None:
    said = hostile.load(engine, layout(""))
    assert said.startswith("200") and "error" not in said, said


def bring(engine: Engine, name: str, **config: Any) -> str:
    return hostile.load(engine, archive({"Cmd": ["sleep", "100"], **config}, [tar(busybox_without())], name))


def test_i8_a_bogus_stop_signal_does_not_make_a_container_unstoppable(engine: Engine) -> None:
    # dockerd runs such an image, and stops it with SIGTERM.
    for number, signal in enumerate(("BOGUS", "SIGRTMAX+99", "-9", "0", "99999999999")):
        said = bring(engine, f"signal{number}", StopSignal=signal)
        if not said.startswith("200") or "error" in said:
            continue
        id = hostile.start(
            engine, f"signal{number}", "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"
        )
        hostile.until(lambda started=id: "up" in hostile.output(engine, started))
        assert hostile.call(engine, "POST", f"/containers/{id}/kill?signal=USR2")[0] in (204, 409)
        status, answer = hostile.call(engine, "POST", f"/containers/{id}/stop?t=5")
        assert status in (204, 304), (signal, answer)
        hostile.remove(engine, id)


def test_i8_a_stop_signal_of_the_caller_is_checked(engine: Engine) -> None:
    result = hostile.run(engine, "busybox", "true", StopSignal="BOGUS")
    assert result.code is None
    assert "signal: BOGUS" in result.text


@pytest.mark.parametrize("volume", ["/", "/proc", "/sys", "/dev", "/proc/self"])
def test_i8_volumes_over_what_is_ours(engine: Engine, volume: str) -> None:
    # dockerd: "/" and "/proc" do not start; volumes on /sys and /dev do.
    said = bring(engine, "volumes", Volumes={volume: {}})
    if said.startswith("200") and "error" not in said:
        script = "cat /proc/1/comm; head -c 9 /proc/keys; echo 1 > /proc/sys/kernel/panic; true"
        result = hostile.run(engine, "volumes", "sh", "-c", script)
        assert result.code is None or "Read-only" in result.text, result
        assert (result.code is None) or volume in ("/sys", "/dev")


def test_i8_exposed_port_ranges(engine: Engine) -> None:
    # dockerd runs these; a -P of all ports ends in an error, not in a hang.
    for number, ports in enumerate(("1-65535/tcp", "0-65535/tcp", "99999/tcp", "80-70/tcp", "x/tcp", "80/bogus")):
        said = bring(engine, f"ports{number}", ExposedPorts={ports: {}})
        if not said.startswith("200") or "error" in said:
            assert number > 0, said
            continue
        result = hostile.run(engine, f"ports{number}", "true")
        assert result.code == 0 or number > 1, (ports, result)
        began = time.monotonic()
        hostile.run(engine, f"ports{number}", "true", host={"PublishAllPorts": True})
        assert time.monotonic() - began < 60


def test_i8_entrypoint_that_is_no_list(engine: Engine) -> None:
    for field in ({"Entrypoint": {"a": 1}}, {"Entrypoint": [1]}, {"Cmd": [["nested"]]}):
        assert "invalid image config" in bring(engine, "entry", **field)
    said = bring(engine, "words", Entrypoint="/bin/true", Cmd=[])  # what old builders wrote
    assert "error" not in said, said
    assert hostile.run(engine, "words").code == 0


def test_i8_reserved_labels_do_not_come_in(engine: Engine) -> None:
    bring(engine, "labels", Labels={"io.boxship.role": "admin", "mine": "kept"})
    assert engine.api("GET", "/images/labels/json")[1]["Config"]["Labels"] == {"mine": "kept"}
    id = hostile.create(engine, "labels")
    assert hostile.inspect(engine, id)["Config"]["Labels"] == {"mine": "kept"}


def test_i8_environment_of_an_image_reaches_the_container_only(engine: Engine) -> None:
    env = [
        f"PYTHONPATH={engine.root}",
        "LD_PRELOAD=/x.so",
        "PYTHONSTARTUP=/x",
        "BOXSHIP_FAILPOINT=start.done",
        "PATH=/nowhere",
    ]
    bring(engine, "env", Env=env)
    id = hostile.start(engine, "env", "/bin/sleep", "100")
    assert hostile.exec_(engine, id, "/bin/true").code == 0
    for pid in (hostile.daemon_pid(engine), hostile.shim_state(engine, id)["shim_pid"]):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"FAILPOINT" not in environment
        assert b"PRELOAD" not in environment


@pytest.mark.parametrize(
    "field", [{"User": "4294967296"}, {"User": "-1"}, {"WorkingDir": "/proc/self/fd/8"}, {"User": "0x0"}]
)
def test_i8_users_and_directories_of_an_image(engine: Engine, field: dict[str, str]) -> None:
    bring(engine, "fields", **field)
    assert hostile.run(engine, "fields", "id").code is None


# bit rot


def edit_rows(engine: Engine, old: bytes, new: bytes) -> int:
    """Change documents behind the store's back; return how many."""
    with contextlib.closing(sqlite3.connect(engine.data_root / "boxship.db")) as database, database:
        rows = database.execute("SELECT rowid, document FROM objects").fetchall()
        hit = [(document.replace(old, new), number) for number, document in rows if old in document]
        database.executemany("UPDATE objects SET document = ? WHERE rowid = ?", hit)
        return len(hit)


def test_f5_a_flipped_bit_in_a_row_is_put_right(fresh_engine: Engine) -> None:
    engine = fresh_engine
    bring(engine, "rot", Env=["SAFE=yes"])
    engine.kill()
    assert edit_rows(engine, b"SAFE=yes", b"SAFE=yer")
    engine.start()
    assert "had a flipped bit in image sha256:" in engine.log_text()
    assert hostile.run(engine, "rot", "sh", "-c", "echo $SAFE").text == "yes\n"


def test_f5_a_damaged_image_is_set_aside_and_the_rest_works(fresh_engine: Engine) -> None:
    engine = fresh_engine
    bring(engine, "rot", Env=["SAFE=yes"])
    id = hostile.start(engine, "busybox", "sleep", "1000")
    pid = hostile.inspect(engine, id)["State"]["Pid"]
    layers = sorted(os.listdir(engine.data_root / "overlay2"))
    engine.kill()
    assert edit_rows(engine, b"SAFE=yes", b"SAFE=OFF")
    engine.start()
    assert "is damaged and was set aside: it does not have its checksum" in engine.log_text()
    assert hostile.inspect(engine, id)["State"]["Pid"] == pid
    assert hostile.call(engine, "GET", "/images/rot/json")[0] == 404
    assert sorted(os.listdir(engine.data_root / "overlay2")) == layers
    bring(engine, "rot", Env=["SAFE=yes"])
    assert hostile.run(engine, "rot", "sh", "-c", "echo $SAFE").text == "yes\n"


def test_f5_a_damaged_container_is_set_aside_and_left_running(fresh_engine: Engine) -> None:
    engine = fresh_engine
    id = hostile.start(engine, "busybox", "sleep", "1234")
    pid = hostile.inspect(engine, id)["State"]["Pid"]
    other = hostile.start(engine, "busybox", "sleep", "1000")
    engine.kill()
    assert edit_rows(engine, b"1234", b"4321")
    engine.start()
    assert f"container {id} is damaged and was set aside" in engine.log_text()
    assert Path(f"/proc/{pid}").exists()
    assert [row["Id"] for row in engine.api("GET", "/containers/json?all=1")[1]] == [other]
    assert (engine.data_root / "containers" / id).is_dir()
    os.kill(pid, 9)


def test_f5_a_flipped_bit_in_a_blob_never_leaves_the_engine(fresh_engine: Engine) -> None:
    engine = fresh_engine
    for blob in (engine.data_root / "content/blobs/sha256").iterdir():
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
    with pytest.raises(http.client.IncompleteRead):
        hostile.call(engine, "GET", "/images/busybox/get")
    assert hostile.run(engine, "busybox", "true").code == 0  # the unpacked layer is whole


@pytest.mark.parametrize("damage", ["header", "page", "truncated"])
def test_f5_a_damaged_database_is_refused(fresh_engine: Engine, damage: str) -> None:
    engine = fresh_engine
    assert engine.stop() == 0
    path = engine.data_root / "boxship.db"
    good = path.read_bytes()
    bad = bytearray(good)
    if damage == "header":
        bad[0:16] = os.urandom(16)
    elif damage == "page":
        for page in range(1, len(bad) // 4096):
            bad[page * 4096 : page * 4096 + 64] = os.urandom(64)
    else:
        del bad[4096:]
    path.write_bytes(bad)
    engine.start(wait=False)
    try:
        assert engine.process is not None
        assert engine.process.wait(30) != 0
        assert "boxship.db" in engine.log_text()
        assert sorted(os.listdir(engine.data_root / "overlay2"))  # nothing was swept on the word of a broken database
    finally:
        if engine.process is not None and engine.process.poll() is None:
            engine.kill()
        engine.process = None
        for leftover in engine.data_root.glob("boxship.db*"):
            leftover.unlink()
        path.write_bytes(good)
        engine.start()
    assert hostile.run(engine, "busybox", "true").code == 0
