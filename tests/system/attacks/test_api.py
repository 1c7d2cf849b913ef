"""Sockets, paths, streams that break off, and host programs that are never looked up in a container (A1, A2, A4, R13, C2)."""

from __future__ import annotations

import bz2
import contextlib
import grp
import gzip
import json
import lzma
import os
import random
import socket
import stat
import struct
import subprocess
import time
from pathlib import Path

import pytest

from harness import hostile
from harness.engine import Engine
from harness.hostile import busybox_without, entry, tar

pytestmark = pytest.mark.system


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a1_modes_of_sockets_and_state_directories(engine: Engine) -> None:
    id = hostile.start(engine, "busybox", "sleep", "100", host={"Binds": ["modes:/v"]})
    assert mode(engine.socket) == 0o660
    for root in (engine.data_root, engine.exec_root):
        assert mode(root) & 0o007 == 0, root
    assert mode(engine.exec_root / "shims" / id / "shim.sock") == 0o600
    open_to_others = []
    passable = {"volumes", "overlay2", "containers"}  # below a root that others cannot enter
    for root in (engine.data_root, engine.exec_root):
        for directory, names, files in os.walk(root):
            names[:] = [n for n in names if n not in ("diff", "merged", "_data", "work")]
            for name in names:
                path = Path(directory, name)
                if mode(path) & 0o027 and not passable & set(path.relative_to(root).parts):
                    open_to_others.append(f"{path} {mode(path):o}")
            for name in files:
                path = Path(directory, name)
                if mode(path) & 0o022 or (name.endswith((".db", ".json", ".log", ".lock")) and mode(path) & 0o007):
                    open_to_others.append(f"{path} {mode(path):o}")
    assert not open_to_others
    # As another user: nothing below the roots can be named, the socket not opened.
    script = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for path in sys.argv[2:]:\n"
        "    try: os.listdir(path)\n"
        "    except PermissionError: continue\n"
        "    sys.exit(f'{path} can be listed')\n"
        "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
        "except PermissionError: sys.exit(0)\n"
        "sys.exit('the socket can be opened')\n"
    )
    os.chmod(engine.root, 0o755)  # the test's own directory is not what keeps them out
    try:
        below = [
            str(path)
            for root in (engine.data_root, engine.exec_root)
            for path in (root, *root.iterdir())
            if path.is_dir()
        ]
        done = subprocess.run(
            ["/usr/bin/python3", "-c", script, str(engine.socket), *below], check=False, capture_output=True, text=True
        )
    finally:
        os.chmod(engine.root, 0o700)
    assert (done.returncode, done.stderr) == (0, "")


def test_a1_no_tcp_without_a_flag_that_says_so(engine: Engine) -> None:
    second = Engine(options=["--host=tcp://127.0.0.1:2375"])
    try:
        with pytest.raises(RuntimeError, match="refusing to listen"):
            second.start()
    finally:
        second.process = None
        second.namespace.close()
        subprocess.run(["rm", "-r", str(second.root)], check=True)


def raw(engine: Engine, request: bytes, seconds: float = 10) -> bytes:
    """Send bytes as they are and return what comes back until the end or a pause."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.connect(str(engine.socket))
        sock.settimeout(seconds)
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while data := sock.recv(65536):
                answer += data
        return answer


@pytest.mark.parametrize(
    "path",
    [
        "//containers/json",
        "/v1.41/../containers/json",
        "/%2e%2e/containers/json",
        "/v1.41/containers/x/../json",
        "/v1.41/containers/%2e%2e/json",
        "/containers/..%2fjson",
        "/v1.41//containers///json",
        "/CONTAINERS/json",
        "/V1.41/containers/json",
        "/v1.41/v1.41/containers/json",
        "/containers/json/",
        "/containers/json%00",
        "/./containers/json",
        "/v99.99/containers/json",
        "/v1.0/containers/json",
        "containers/json",
        "http://evil/containers/json/../../_ping",
    ],
)
def test_a2_path_tricks(engine: Engine, path: str) -> None:
    """None but the plain form of a path is served, so that who checks a path and who acts on it see the same."""
    answer = raw(engine, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status = int(answer.split()[1]) if answer else 0
    assert status in (0, 301, 400, 404), answer[:200]
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2f..%2fetc", "a%2fb", "%00", "\\..\\..", "-", "x" * 5000, "*", "%ff%fe"]
)
def test_a2_object_names_are_no_paths(engine: Engine, name: str) -> None:
    for kind in ("containers", "volumes", "networks", "images", "exec"):
        suffix = "" if kind in ("volumes", "networks") else "/json"
        for method in ("GET", "DELETE"):
            target = f"/{kind}/{name}" + (suffix if method == "GET" else "")
            answer = raw(engine, f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert not answer or int(answer.split()[1]) in (301, 400, 404, 405), (target, answer[:200])
    status, answer2 = hostile.call(engine, "POST", "/volumes/create", {"Name": f"../{name}"})
    assert status == 400, answer2


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 2\r\nContent-Length: 20\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 2\r\n",
        "Transfer-Encoding : chunked\r\n",
    ],
)
def test_a2_ambiguous_bodies_are_refused(engine: Engine, head: str) -> None:
    body = '{"Name":"smuggled"}'
    request = f"POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}\r\n{body}"
    answer = raw(engine, request.encode(), 3)
    assert answer == b"" or int(answer.split()[1]) >= 400, answer[:200]
    assert engine.api("GET", "/volumes/smuggled")[0] == 404


def test_a2_duplicate_keys_in_a_body_mean_one_thing(engine: Engine) -> None:
    body = b'{"Image":"busybox","HostConfig":{"Privileged":false},"HostConfig":{"Privileged":true}}'
    head = f"POST /containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = raw(engine, head.encode() + body)
    status = int(answer.split()[1])
    if status == 201:  # the last one counts, as in Go's decoder; what is shown is what runs
        id = json.loads(answer.split(b"\r\n\r\n", 1)[1])["Id"]
        assert hostile.inspect(engine, id)["HostConfig"]["Privileged"] is True
    else:
        assert status == 400


def figures(engine: Engine, id: str) -> dict[str, int]:
    """What a leak would let grow, of the daemon and of the container's shim."""
    daemon, shim = hostile.daemon_pid(engine), hostile.shim_state(engine, id)["shim_pid"]
    return {
        "daemon descriptors": len(os.listdir(f"/proc/{daemon}/fd")),
        "shim descriptors": len(os.listdir(f"/proc/{shim}/fd")),
        "tasks": engine.api("GET", "/info")[1]["NGoroutines"],
        "processes": len(hostile.children(shim)),
        "daemon memory": _memory(daemon),
        "shim memory": _memory(shim),
    }


def _memory(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("RssAnon")))


def break_off(engine: Engine, id: str, dice: random.Random) -> None:
    """Attach or exec, take part a little, and drop the connection in one of several ways."""
    if dice.random() < 0.5:
        path = f"/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1&logs={dice.randrange(2)}"
        body = b""
    else:
        words = dice.choice(
            [["sh", "-c", "yes | head -c 3000000"], ["cat"], ["true"], ["sh", "-c", "sleep 0.05; echo x"], ["missing"]]
        )
        config = {
            "Cmd": words,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": dice.random() < 0.5,
        }
        exec_id = json.loads(hostile.call(engine, "POST", f"/containers/{id}/exec", config)[1])["Id"]
        path = f"/exec/{exec_id}/start"
        body = json.dumps({"Tty": config["Tty"]}).encode()
        if dice.random() < 0.3:
            hostile.call(engine, "POST", f"/exec/{exec_id}/resize?h=9&w=9")
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(engine.socket))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    cut = dice.randrange(len(request)) if dice.random() < 0.2 else len(request)
    sock.sendall(request[:cut])
    if cut == len(request):
        if dice.random() < 0.7:
            sock.recv(1)
        with contextlib.suppress(OSError):
            if dice.random() < 0.5:
                sock.sendall(b"typed\n" * dice.randrange(2000))
            if dice.random() < 0.3:
                sock.shutdown(dice.choice([socket.SHUT_RD, socket.SHUT_WR]))
            if dice.random() < 0.3:
                sock.recv(4096)
    if dice.random() < 0.5:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    hostile.call(engine, "POST", f"/containers/{id}/resize?h={dice.randrange(70000)}&w={dice.randrange(70000)}")


@pytest.mark.timeout(0)
def test_a4_attach_exec_resize_with_abrupt_disconnects(engine: Engine) -> None:
    id = hostile.start(
        engine, "busybox", "sh", "-c", "while :; do echo tick; usleep 50000; done & exec cat >/dev/null", OpenStdin=True
    )
    dice = random.Random(4)
    for _ in range(40):  # pools fill, modules load, buffers take their size
        break_off(engine, id, dice)
    before = settled(engine, id)
    for _ in range(hostile.rounds(60)):
        break_off(engine, id, dice)
    after = settled(engine, id)
    assert hostile.exec_(engine, id, "echo", "fine").text == "fine\n"
    for name in ("daemon descriptors", "shim descriptors", "tasks", "processes"):
        assert after[name] <= before[name] + 3, (before, after)
    for name in ("daemon memory", "shim memory"):
        assert after[name] <= before[name] * 1.05 + 3000, (before, after)


def test_a4_input_that_nobody_reads_does_not_fill_the_descriptor_table(engine: Engine) -> None:
    id = hostile.start(engine, "busybox", "sleep", "1000", OpenStdin=True)
    shim = hostile.shim_state(engine, id)["shim_pid"]
    for _ in range(hostile.rounds(60)):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(engine.socket))
        sock.sendall(
            f"POST /containers/{id}/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        assert sock.recv(12).startswith(b"HTTP/1.1 101")
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(20):
                sock.send(bytes(65536))
        sock.close()
    assert len(os.listdir(f"/proc/{shim}/fd")) < 40
    assert _memory(shim) < 16 << 10
    assert hostile.exec_(engine, id, "echo", "fine").text == "fine\n"


def settled(engine: Engine, id: str) -> dict[str, int]:
    """Return the figures once two looks agree, or at the bound."""
    for exec_id in hostile.inspect(engine, id)["ExecIDs"] or ():
        found = hostile.inspect_exec(engine, exec_id)
        if found["Running"] and found["Pid"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found["Pid"], 9)
    last: dict[str, int] = {}

    def same() -> bool:
        nonlocal last
        now = figures(engine, id)
        equal = all(now[k] == last.get(k) for k in now if "memory" not in k) and now["processes"] <= 1
        last = now
        if not equal:
            time.sleep(0.3)
        return equal

    hostile.until(same, lambda: last, 40)
    running = [
        found
        for found in (hostile.inspect_exec(engine, e) for e in hostile.inspect(engine, id)["ExecIDs"] or ())
        if found["Running"]
    ]
    assert not running, running
    return last


def test_a4_a_reader_that_never_reads_holds_up_its_own_container_only(engine: Engine) -> None:
    id = hostile.start(engine, "busybox", "sh", "-c", "yes")
    readers = []
    for _ in range(5):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(engine.socket))
        sock.sendall(
            f"POST /containers/{id}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        assert sock.recv(12).startswith(b"HTTP/1.1 101")
        readers.append(sock)
    shim = hostile.shim_state(engine, id)["shim_pid"]
    for _ in range(5):
        assert hostile.run(engine, "busybox", "true").code == 0
    assert _memory(shim) < 64 << 10
    assert _memory(hostile.daemon_pid(engine)) < 400 << 10
    hostile.remove(engine, id)
    for sock in readers:
        sock.close()


def test_r13_and_c2_host_commands_are_not_resolved_in_the_container(engine: Engine) -> None:
    """Traps under the name of every helper an engine ever called, and libraries for it; then every call there is."""
    trap = b"#!/bin/sh\necho $0 $* >> /trapped\n"
    names = [
        "ps",
        "tar",
        "xz",
        "unpigz",
        "gzip",
        "pigz",
        "zstd",
        "bzip2",
        "nsenter",
        "mount",
        "umount",
        "iptables",
        "nft",
        "ip",
        "mkfs",
        "cp",
    ]
    libraries = [
        "lib/libnss_files.so.2",
        "lib/x86_64-linux-gnu/libnss_files.so.2",
        "lib64/libc.so.6",
        "usr/lib/libnss_compat.so.2",
    ]
    entries = [*busybox_without(*(f"bin/{name}" for name in names))]
    for name in names:
        entries += [entry(f"{place}/{name}", trap) for place in ("bin", "usr/bin", "usr/local/sbin")]
    entries += [entry(path, b"not a library") for path in libraries]
    entries += [
        entry("usr/lib/python3.11/os.py", b"open('/trapped', 'w')"),
        entry("etc/ld.so.preload", b"/lib/trap.so"),
    ]
    said = hostile.bring(engine, "trapped", tar(entries))
    assert "error" not in said, said
    id = hostile.start(engine, "trapped", "/bin/busybox", "sleep", "1000", host={"Binds": ["trapvolume:/home"]})
    pid = hostile.inspect(engine, id)["State"]["Pid"]
    small = tar([entry("in.txt", b"in")])
    calls: list[tuple[str, str, object]] = [
        ("GET", f"/containers/{id}/top", None),
        ("GET", f"/containers/{id}/top?ps_args=aux", None),
        ("GET", f"/containers/{id}/stats?stream=0&one-shot=1", None),
        ("GET", f"/containers/{id}/changes", None),
        ("GET", f"/containers/{id}/export", None),
        ("GET", f"/containers/{id}/logs?stdout=1", None),
        ("GET", f"/containers/{id}/archive?path=/etc/passwd", None),
        ("PUT", f"/containers/{id}/archive?path=/tmp", small),
        ("PUT", f"/containers/{id}/archive?path=/tmp", gzip.compress(small)),
        ("PUT", f"/containers/{id}/archive?path=/tmp", lzma.compress(small)),
        ("PUT", f"/containers/{id}/archive?path=/tmp", bz2.compress(small)),
        ("POST", f"/containers/{id}/pause", None),
        ("POST", f"/containers/{id}/unpause", None),
        ("POST", f"/containers/{id}/resize?h=10&w=10", None),
        ("POST", f"/containers/{id}/update", {"Memory": 64 << 20, "MemorySwap": 128 << 20}),
        ("POST", f"/containers/{id}/rename?name=renamed", None),
        ("POST", f"/commit?container={id}&repo=committed", {}),
        ("GET", f"/containers/{id}/json?size=1", None),
        ("GET", "/containers/json?all=1&size=1", None),
        ("GET", "/system/df", None),
        ("GET", "/images/trapped/get", None),
        ("GET", "/images/trapped/history", None),
        ("POST", f"/containers/{id}/restart?t=0", None),
        ("POST", f"/containers/{id}/kill?signal=USR1", None),
        ("POST", f"/containers/{id}/stop?t=0", None),
        ("POST", f"/containers/{id}/start", None),
        ("GET", f"/containers/{id}/export", None),
    ]
    merged = Path(hostile.inspect(engine, id)["GraphDriver"]["Data"]["MergedDir"])
    for method, path, body in calls:
        status, answer = hostile.call(engine, method, path, body)
        assert status < 500 or status == 501, (path, status, answer[:300])
        assert not (merged / "trapped").exists(), path
    assert hostile.exec_(engine, id, "/bin/busybox", "true").code == 0
    assert not (merged / "trapped").exists()
    assert pid
    # The trap itself works.
    assert hostile.exec_(engine, id, "/bin/busybox", "sh", "-c", "/bin/ps; /usr/bin/tar").code == 0
    assert len((merged / "trapped").read_text().splitlines()) == 2


def test_a1_group_of_the_socket(engine: Engine) -> None:
    owner = engine.socket.lstat()
    names = {group.gr_name for group in grp.getgrall()}
    assert owner.st_uid == 0
    assert owner.st_gid == (grp.getgrnam("boxship").gr_gid if "boxship" in names else 0)
