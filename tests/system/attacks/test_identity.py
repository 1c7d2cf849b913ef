"""Who a container's process is: users, capabilities, system calls, namespaces (R8, R9, R11, R12)."""

from __future__ import annotations

import itertools
import json
import os
import platform
from pathlib import Path

import pytest

from harness import hostile
from harness.engine import Engine
from harness.hostile import busybox_without, directory, entry, link, tar
from harness.netns import namespaces_of

pytestmark = pytest.mark.system

REFUSED = None
# What dockerd 20.10.24 answers to each, tried by hand.
USERS = {
    "1": (1, 0),
    "1:": (1, 0),
    ":1": (0, 1),
    "01": (1, 0),
    "+1": (1, 0),
    "app": (1000, 1000),
    "app:extra": (1000, 2000),
    "1000": (1000, 1000),
    "2147483647": (2147483647, 0),
    "-1": REFUSED,
    "4294967295": REFUSED,
    "4294967296": REFUSED,
    "2147483648": REFUSED,
    "18446744073709551616": REFUSED,
    "1:4294967296": REFUSED,
    "1:99999999999": REFUSED,
    "1:-1": REFUSED,
    "\u0661": REFUSED,
    "1\u0661": REFUSED,
    "0x1": REFUSED,
    "1 ": REFUSED,
    "nobody2": REFUSED,
    "../root": REFUSED,
}


@pytest.mark.parametrize("user", USERS, ids=ascii)
def test_r8_user_parsing(engine: Engine, user: str) -> None:
    expected = USERS[user]
    ran = hostile.run(engine, "busybox", "sh", "-c", "echo $(id -u) $(id -g)", User=user)
    id = hostile.start(engine, "busybox", "sleep", "100")
    executed = hostile.exec_(engine, id, "sh", "-c", "echo $(id -u) $(id -g)", User=user)
    hostile.remove(engine, id)
    if expected is REFUSED:
        assert ran.code is None, ran
        assert executed.code is None, executed
    else:
        assert [ran.text.split(), executed.text.split()] == [[str(n) for n in expected]] * 2


def test_r8_supplementary_groups_are_neither_lost_nor_kept(engine: Engine) -> None:
    assert hostile.run(engine, "busybox", "id", "-G", User="app").text == "1000 2000\n"
    assert hostile.run(engine, "busybox", "id", "-G", User="app:app").text == "1000\n"
    assert hostile.run(engine, "busybox", "id", "-G", User="app", host={"GroupAdd": ["77"]}).text == "1000 77 2000\n"
    assert hostile.run(engine, "busybox", "id", "-G", User="4242").text == "0\n"
    id = hostile.start(engine, "busybox", "sleep", "100", User="app")
    assert hostile.exec_(engine, id, "id", "-G", User="4242").text == "0\n"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["fifo", "device", "link out", "huge", "sparse", "directory", "numeric name"])
def test_r8_hostile_passwd_files(engine: Engine, kind: str) -> None:
    import tarfile

    entries = {
        "fifo": entry("etc/passwd", type=tarfile.FIFOTYPE),
        "device": entry("etc/passwd", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        "link out": link("etc/passwd", "../../../../../../../etc/passwd"),
        "huge": entry("etc/passwd", b"x:x:0:0::/:/bin/sh\n" * 1_500_000),
        "sparse": entry("etc/passwd", bytes(40 << 20)),
        "directory": directory("etc/passwd"),
        "numeric name": entry(
            "etc/passwd", b"1:x:0:0::/:/bin/sh\n4294967297:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n"
        ),
    }
    said = hostile.bring(engine, "passwd", tar([*busybox_without("etc/passwd"), entries[kind]]))
    assert said.startswith("200"), said
    for user in ("1", "4294967297", "daemon", "app"):
        result = hostile.run(engine, "passwd", "sh", "-c", "id -u; grep PPid /proc/self/status", User=user)
        assert result.code is None or result.text.split()[0] == user, (user, result)


COMBINATIONS = list(
    itertools.product(
        ["", "1000"], [[], ["ALL"], ["NET_ADMIN"]], [[], ["ALL"], ["CHOWN", "MKNOD"]], [[], ["no-new-privileges"]]
    )
)
FIELDS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")


def test_r9_inheritable_capabilities_and_no_new_privs(engine: Engine) -> None:
    """Every combination's process status; the expected masks were read in dockerd 20.10.24 (see status_masks.json)."""
    recorded = json.loads((Path(__file__).parent / "status_masks.json").read_text())
    different = {}
    for user, add, drop, options in COMBINATIONS:
        key = json.dumps([user, add, drop, options])
        if key not in recorded:
            continue  # all capabilities: the recorded engine knew three fewer, and needs a host that lacks none
        result = hostile.run(
            engine,
            "busybox",
            "cat",
            "/proc/self/status",
            User=user,
            host={"CapAdd": add, "CapDrop": drop, "SecurityOpt": options},
        )
        status = dict(line.split(":\t", 1) for line in result.text.splitlines() if ":\t" in line)
        found = [status.get(field, result.text) for field in FIELDS]
        if found != recorded[key]:
            different[key] = (found, recorded[key])
    assert not different


def test_r9_no_keys_are_shown(engine: Engine) -> None:
    first = hostile.start(engine, "busybox", "sleep", "100")
    hostile.start(engine, "busybox", "sleep", "100")
    assert hostile.exec_(engine, first, "cat", "/proc/keys").text == ""  # masked


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_r11_seccomp_is_loaded(engine: Engine) -> None:
    """Denied calls by number, on the x86-64, x32 and i386 tables.

    The prober is assembled by hand, so that no compiler is needed: for each number it calls with zeros and writes the result.
    """
    program = prober()
    said = hostile.bring(engine, "prober", tar([*busybox_without(), entry("probe", program)]))
    assert said.startswith("200"), said
    result = hostile.run(engine, "prober", "/probe")
    assert result.code == 0, result
    answers = dict(zip(CALLS, result.text.split(), strict=True))
    wrong = {name: answers[name] for name in CALLS if answers[name] != "EPERM"}
    assert not wrong
    free = hostile.run(engine, "prober", "/probe", host={"SecurityOpt": ["seccomp=unconfined"], "CapAdd": ["ALL"]})
    allowed = dict(zip(CALLS, free.text.split(), strict=True))
    assert allowed["keyctl"] != "EPERM"  # so the probe itself tells the difference


# name: (call table, number); numbers of arch/x86/entry/syscalls
CALLS = {
    "keyctl": ("x64", 250),
    "add_key": ("x64", 248),
    "kexec_load": ("x64", 246),
    "bpf": ("x64", 321),
    "userfaultfd": ("x64", 323),
    "mount": ("x64", 165),
    "unshare user": ("unshare", 0x10000000),
    "socket AF_ALG": ("socket", 38),
    "socket AF_VSOCK": ("socket", 40),
    "init_module": ("x64", 175),
    "open_by_handle_at": ("x64", 304),
    "mount x32": ("x32", 165),
    "keyctl x32": ("x32", 250),
    "keyctl i386": ("i386", 288),
    "mount i386": ("i386", 21),
    "bpf i386": ("i386", 357),
}


def prober() -> bytes:
    """Return a static x86-64 program that makes each of CALLS and prints EPERM or OTHER."""
    code = bytearray()
    for table, number in CALLS.values():
        first = 0
        if table in ("unshare", "socket"):  # the number is the first argument
            number, first = {"unshare": 272, "socket": 41}[table], number
        if table == "x32":
            number |= 0x40000000
        code += b"\x31\xd2\x31\xf6\x4d\x31\xd2\x4d\x31\xc0\x31\xc9\x31\xdb"  # xor edx,esi,r10,r8,ecx,ebx
        code += b"\xbf" + first.to_bytes(4, "little")  # mov edi, first
        code += b"\xb8" + number.to_bytes(4, "little")  # mov eax, number
        code += b"\xcd\x80" if table == "i386" else b"\x0f\x05"  # int 0x80 / syscall
        code += b"\x83\xf8\xff"  # cmp eax, -1 (EPERM)
        code += b"\x75\x07\xbe" + b"EPER" + b"\xeb\x05\xbe" + b"OTHE"  # jne +7; mov esi, text; jmp +5; mov esi, text
        code += b"\x56\x48\x89\xe6"  # push rsi; mov rsi, rsp
        code += b"\xba\x04\x00\x00\x00\xbf\x01\x00\x00\x00\xb8\x01\x00\x00\x00\x0f\x05"  # write(1, rsp, 4)
        code += b"\x58\x68\x4d\x0a\x00\x00\x48\x89\xe6"  # pop rax; push "M\n"; mov rsi, rsp
        code += b"\xba\x02\x00\x00\x00\xbf\x01\x00\x00\x00\xb8\x01\x00\x00\x00\x0f\x05\x58"  # write(1, rsp, 2); pop
    code += b"\xbf\x00\x00\x00\x00\xb8\xe7\x00\x00\x00\x0f\x05"  # exit_group(0)
    base, head = 0x400000, 64 + 56
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += (2).to_bytes(2, "little") + (62).to_bytes(2, "little") + (1).to_bytes(4, "little")
    elf += (base + head).to_bytes(8, "little") + (64).to_bytes(8, "little") + bytes(8) + bytes(4)
    elf += b"".join(n.to_bytes(2, "little") for n in (64, 56, 1, 0, 0, 0))
    size = head + len(code)
    elf += (1).to_bytes(4, "little") + (5).to_bytes(4, "little") + bytes(8)
    elf += base.to_bytes(8, "little") * 2 + size.to_bytes(8, "little") * 2 + (0x1000).to_bytes(8, "little")
    return bytes(elf) + bytes(code)


NAMESPACES = {"PidMode": "pid", "NetworkMode": "net", "IpcMode": "ipc", "UTSMode": "uts", "CgroupnsMode": "cgroup"}


def test_r12_namespace_leaks(engine: Engine) -> None:
    """Each combination of namespaces shared with the host: those, and no others, are the host's."""
    outside = namespaces_of(os.getpid()) | {"net": os.readlink(engine.namespace.path)}
    for chosen in itertools.product([False, True], repeat=len(NAMESPACES)):
        host = {name: "host" for name, shared in zip(NAMESPACES, chosen, strict=True) if shared}
        id = hostile.start(engine, "busybox", "sleep", "100", host=host)
        inside = namespaces_of(hostile.inspect(engine, id)["State"]["Pid"])
        kinds = {NAMESPACES[name] for name in host}
        for kind in ("pid", "net", "ipc", "uts", "cgroup", "mnt"):
            assert (inside[kind] == outside[kind]) == (kind in kinds), (host, kind)
        hostile.remove(engine, id)


def test_r12_no_abstract_sockets_of_ours(engine: Engine) -> None:
    hostile.start(engine, "busybox", "sleep", "100")
    seen = hostile.run(engine, "busybox", "cat", "/proc/net/unix", host={"NetworkMode": "host"})
    names = [line.split()[7] for line in seen.text.splitlines()[1:] if len(line.split()) > 7]
    assert not [name for name in names if name.startswith("@")]
