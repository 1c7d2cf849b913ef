"""What each flag of ``docker run`` does, as a table: the cases of tests/system/test_run_flags.py and of docs/run-flags.md.

``python -m harness.run_flags > docs/run-flags.md`` (with tests on the path) writes the page anew.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

CGROUP = "/sys/fs/cgroup"


@dataclass(frozen=True)
class Case:
    """One run of a container; ``expected`` is a regular expression that its output must contain.

    ``words`` and ``command`` are split at blanks unless they are tuples; ``@`` in a word is a directory of the test's own.
    ``before`` and ``after`` are further commands of the same CLI; with ``after`` the output of the last one counts.
    """

    flag: str
    words: str | tuple[str, ...]
    command: str | tuple[str, ...]
    expected: str
    effect: str
    code: int | None = 0  # None: not the point
    before: tuple[str | tuple[str, ...], ...] = ()
    after: tuple[str | tuple[str, ...], ...] = ()
    input: str | None = None
    files: tuple[tuple[str, str], ...] = ()  # name and content, in the test's directory
    version: int = 0  # of cgroups, when the observed file has it; 0: any
    row: str = ""

    @property
    def id(self) -> str:
        words = self.words if isinstance(self.words, str) else " ".join(self.words)
        return re.sub(r"[^A-Za-z0-9=:,./-]+", "_", words)[:60].strip("_")


def split(words: str | tuple[str, ...]) -> list[str]:
    """Return the words of a command line."""
    return words.split() if isinstance(words, str) else list(words)


def _file(
    flag: str,
    words: str | tuple[str, ...],
    file: str,
    expected: str,
    effect: str,
    row: str,
    version_2: tuple[str, str] | None = None,
) -> Case:
    """A limit that shows in a file of cgroup v1, and in another one of v2 (name and content) if it has it."""
    if version_2 is None:
        return Case(flag, words, f"cat {CGROUP}/{file}", f"^{expected}$", effect, version=1, row=row)
    files = _shell(f"cat {CGROUP}/{file} 2>/dev/null || cat {CGROUP}/{version_2[0]}")
    return Case(flag, words, files, f"^(?:{expected}|{version_2[1]})$", effect, row=row)


def _shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


SLEEPER = ("run", "-d", "--name", "donor", "busybox", "sleep", "1000")
SHARER = (
    *("run", "-d", "--name", "donor", "--ipc", "shareable", "busybox"),
    *_shell("echo shared > /dev/shm/f; sleep 1000"),
)
DENY_MKDIR = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}'
UNTIL_READY = ("exec", "it", *_shell("until [ -e /ready ]; do sleep 0.01; done"))

CASES: tuple[Case, ...] = (
    Case("add-host", "--add-host db:10.1.2.3", "grep db /etc/hosts", r"10\.1\.2\.3\s+db", "a line in /etc/hosts"),
    Case(
        "annotation",
        "-d --name it --annotation org.example=x",
        "sleep 1000",
        "^x$",
        "handed to the OCI runtime, kept in inspect",
        after=(("inspect", "-f", '{{index .HostConfig.Annotations "org.example"}}', "it"),),
    ),
    Case("attach", "-a stderr", _shell("echo out; echo err >&2"), r"\Aerr\n\Z", "only the named streams", row="RUN-44"),
    Case(
        "blkio-weight",
        "--blkio-weight 300",
        _shell(f"cat {CGROUP}/blkio/blkio.bfq.weight {CGROUP}/blkio/blkio.weight 2>/dev/null || true"),
        "^300$|Weight discarded",
        "relative weight; discarded with a warning where no I/O scheduler knows weights",
        version=1,
        row="RES-12",
    ),
    Case(
        "blkio-weight-device",
        "--blkio-weight-device /dev/loop0:200",
        _shell(f"cat {CGROUP}/blkio/blkio.bfq.weight_device {CGROUP}/blkio/blkio.weight_device 2>/dev/null || true"),
        "^7:0 200$|weight_device: Operation not supported|Weight-device discarded",
        "weight for one device; the kernel refuses it where the device's scheduler is not BFQ",
        code=None,
        version=1,
        row="RES-12",
    ),
    Case("cap-add", "--cap-add NET_ADMIN", "grep CapEff /proc/self/status", "00000000a80435fb", "a capability more", row="ISO-05"),
    Case("cap-drop", "--cap-drop ALL", "grep CapEff /proc/self/status", "0000000000000000", "none left", row="ISO-05"),
    Case(
        "cgroup-parent",
        "--cgroup-parent /boxship-flags --cgroupns host",
        "cat /proc/self/cgroup",
        ":/boxship-flags/[0-9a-f]{64}",
        "the cgroup lies below another one",
        row="RES-15",
    ),
    Case(
        "cgroupns",
        "--cgroupns host",
        "cat /proc/self/cgroup",
        "/boxship/[0-9a-f]{64}",
        "the container sees its place in the host's hierarchy",
        row="RES-15",
    ),
    Case("cgroupns", "--cgroupns private", "cat /proc/self/cgroup", ":/$", "... or a root of its own", row="RES-15"),
    Case(
        "cidfile",
        "--cidfile @/cid",
        "true",
        "container ID file found",
        "the id in a file that must not exist before",
        before=("run --rm --cidfile @/cid busybox true",),
        code=125,
        row="RUN-44",
    ),
    _file("cpu-period", "--cpu-period 50000", "cpu/cpu.cfs_period_us", "50000", "CFS period", "RES-05", ("cpu.max", "max 50000")),
    _file("cpu-quota", "--cpu-quota 20000", "cpu/cpu.cfs_quota_us", "20000", "CFS quota", "RES-05", ("cpu.max", "20000 100000")),
    _file("cpu-rt-period", "--cpu-rt-period 500000", "cpu/cpu.rt_period_us", "500000", "realtime period", "RES-15"),
    Case(
        "cpu-rt-runtime",
        "--cpu-rt-runtime 9500 --cgroup-parent /boxship-flags",
        f"cat {CGROUP}/cpu/cpu.rt_runtime_us",
        "^9500$",
        "realtime share; the cgroups above get as much",
        version=1,
        row="RES-15",
    ),
    _file("cpu-shares", "-c 512", "cpu/cpu.shares", "512", "relative weight under contention", "RES-02", ("cpu.weight", "59")),
    _file("cpus", "--cpus 0.5", "cpu/cpu.cfs_quota_us", "50000", "a quota of half a processor", "RES-06", ("cpu.max", "50000 100000")),
    Case("cpuset-cpus", "--cpuset-cpus 0", "grep Cpus_allowed_list /proc/self/status", r"\t0$", "pinned", row="RES-03"),
    Case(
        "cpuset-cpus",
        "--cpuset-cpus 7777",
        "true",
        "Requested CPUs are not available - requested 7777, available: ",
        "... to what there is",
        code=125,
        row="RES-03",
    ),
    Case("cpuset-mems", "--cpuset-mems 0", "grep Mems_allowed_list /proc/self/status", r"\t0$", "memory nodes", row="RES-03"),
    Case("detach", "-d", "sleep 1000", r"\A[0-9a-f]{64}\n\Z", "prints the id and leaves"),
    Case("device", "--device /dev/loop0:/dev/mine:r", "ls -l /dev/mine", r"^b.* 7, +0 ", "the node", row="RES-16"),
    Case(
        "device",
        "--device /dev/loop0:/dev/mine:r",
        _shell("exec 3<>/dev/mine"),
        "Operation not permitted",
        "... with the access that was granted",
        code=1,
        row="RES-16",
    ),
    _file(
        "device-cgroup-rule",
        ("--device-cgroup-rule", "c 10:200 rwm"),
        "devices/devices.list",
        "c 10:200 rwm",
        "access to devices yet to be made",
        "RES-16",
    ),
    _file(
        "device-read-bps", "--device-read-bps /dev/loop0:1mb", "blkio/blkio.throttle.read_bps_device",
        "7:0 1048576", "bytes a second", "RES-12", ("io.max", "7:0 .*rbps=1048576.*"),
    ),
    _file(
        "device-read-iops", "--device-read-iops /dev/loop0:10", "blkio/blkio.throttle.read_iops_device",
        "7:0 10", "operations a second", "RES-12", ("io.max", "7:0 .*riops=10.*"),
    ),
    _file(
        "device-write-bps", "--device-write-bps /dev/loop0:2mb", "blkio/blkio.throttle.write_bps_device",
        "7:0 2097152", "bytes a second", "RES-12", ("io.max", "7:0 .*wbps=2097152.*"),
    ),
    _file(
        "device-write-iops", "--device-write-iops /dev/loop0:20", "blkio/blkio.throttle.write_iops_device",
        "7:0 20", "operations a second", "RES-12", ("io.max", "7:0 .*wiops=20.*"),
    ),
    Case("dns", "--dns 192.0.2.9", "cat /etc/resolv.conf", r"nameserver 192\.0\.2\.9", "name server"),
    Case("dns-option", "--dns-option ndots:3", "cat /etc/resolv.conf", "^options ndots:3$", "resolver option"),
    Case("dns-search", "--dns-search example.org", "cat /etc/resolv.conf", r"^search example\.org$", "search domain"),
    Case("domainname", "--domainname example.org", "cat /proc/sys/kernel/domainname", r"^example\.org$", "NIS domain"),
    Case("entrypoint", "--entrypoint echo", "hi", "^hi$", "another program"),
    Case("env", "-e A=3", "env", "^A=3$", "environment"),
    Case("env-file", "--env-file @/env", "env", "^B=4$", "environment from a file", files=(("env", "# no\nB=4\n"),)),
    Case(
        "expose",
        "-d --name it --expose 70-71 -P",
        "sleep 1000",
        r"70/tcp -> [^\n]*\n(.*\n)*71/tcp -> ",
        "ports for -P",
        after=("port it",),
    ),
    Case(
        "gpus",
        "--gpus all",
        "true",
        r'could not select device driver "" with capabilities: \[\[gpu\]\]',
        "refused: no device driver gives GPUs here",
        code=125,
        row="RES-16",
    ),
    Case("group-add", "--group-add 55", "id -G", r"\b55\b", "additional group"),
    Case("hostname", "-h box", "hostname", "^box$", "host name"),
    Case("init", "--init", "ps", r"1 root +/sbin/docker-init -- ps", "an init as PID 1", row="RUN-42"),
    Case("interactive", "-i", "cat", r"\Atyped\Z", "input arrives", input="typed"),
    Case(
        "ip",
        "--ip 172.17.0.99",
        "true",
        "user specified IP address is supported on user defined networks only",
        "refused on the default bridge",
        code=125,
    ),
    Case(
        "ip6",
        "--ip6 2001:db8::33",
        "true",
        "user specified IP address is supported on user defined networks only",
        "refused on the default bridge",
        code=125,
    ),
    Case("ipc", "--ipc none", _shell("ls /dev/shm"), "No such file", "none: no /dev/shm", code=1, row="ISO-03"),
    Case("ipc", "--ipc host", "readlink /proc/self/ns/ipc", "{host:ipc}", "host: the host's", row="ISO-03"),
    Case(
        "ipc",
        "--ipc container:donor",
        "cat /dev/shm/f",
        "^shared$",
        "container: semaphores and shared memory of a shareable one",
        before=(SHARER, ("exec", "donor", *_shell("until [ -e /dev/shm/f ]; do sleep 0.01; done"))),
        row="ISO-03",
    ),
    Case(
        "ipc",
        "--ipc container:donor",
        "true",
        "non-shareable IPC",
        "... and of no other",
        before=(SLEEPER,),
        code=125,
        row="ISO-03",
    ),
    Case("isolation", "--isolation hyperv", "true", "linux only supports 'default'", "only `default`", code=125),
    Case(
        "label", "-d --name it -l a=b", "sleep 1000", "^b$", "metadata",
        after=(("inspect", "-f", "{{.Config.Labels.a}}", "it"),),
    ),
    Case(
        "label-file", "-d --name it --label-file @/labels", "sleep 1000", "^b$", "metadata from a file",
        files=(("labels", "a=b\n"),), after=(("inspect", "-f", "{{.Config.Labels.a}}", "it"),),
    ),
    Case(
        "link-local-ip", "--link-local-ip 169.254.1.5", "true", "supported on user defined networks only",
        "refused on the default bridge", code=125,
    ),
    Case(
        "log-driver", "-d --name it --log-driver none", "true",
        "configured logging driver does not support reading", "where output is kept",
        after=("wait it", "logs it"), code=1,
    ),
    Case("log-opt", "--log-opt max-size=x", "true", "invalid size: 'x'", "options of the driver", code=125),
    Case(
        "mac-address", "--mac-address 92:d0:c6:0a:29:33", "cat /sys/class/net/eth0/address", "92:d0:c6:0a:29:33",
        "address of the interface",
    ),
    _file("memory", "-m 64m", "memory/memory.limit_in_bytes", "67108864", "hard limit", "RES-07", ("memory.max", "67108864")),
    _file("memory", "-m 64m", "memory/memory.memsw.limit_in_bytes", "134217728", "... and as much swap", "RES-08", ("memory.swap.max", "67108864")),
    _file(
        "memory-reservation", "--memory-reservation 32m", "memory/memory.soft_limit_in_bytes", "33554432",
        "soft limit", "RES-11", ("memory.low", "33554432"),
    ),
    _file(
        "memory-swap", "-m 64m --memory-swap 96m", "memory/memory.memsw.limit_in_bytes", "100663296",
        "memory and swap together", "RES-09", ("memory.swap.max", "33554432"),
    ),
    _file("memory-swappiness", "--memory-swappiness 0", "memory/memory.swappiness", "0", "0 to 100", "RES-11"),
    Case(
        "mount", "--mount type=bind,src=@,dst=/t,ro", _shell("cat /t/f; touch /t/x"),
        r"content\n(.*\n)*.*Read-only file system", "bind", files=(("f", "content\n"),), code=1,
    ),
    Case(
        "mount", "--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700", "grep /t /proc/mounts",
        "size=1024k,mode=700", "tmpfs",
    ),
    Case(
        "mount", "--mount type=volume,src=flags,dst=/t,volume-subpath=sub", "ls /t", "^inside$", "volume, or a part of one",
        before=(("run", "--rm", "-v", "flags:/v", "busybox", "mkdir", "-p", "/v/sub/inside"),),
    ),
    Case(
        "mount", "--mount type=volume,src=flags,dst=/t,volume-subpath=link", "ls -d /t/proc /t/link", "^/t/link$",
        "... walked inside the volume", code=1,
        before=(("run", "--rm", "-v", "flags:/v", "busybox", "ln", "-sfn", "/", "/v/link"),),
    ),
    Case(
        "mount", "--mount type=bind,src=@/nosuch,dst=/t", "true", "bind source path does not exist",
        "a source must exist", code=125,
    ),
    Case("name", "-d --name it", "sleep 1000", "^it$", "its name", after=(("ps", "--format", "{{.Names}}"),)),
    Case("network", "--network none", "ls /sys/class/net", r"^lo$(?!\n.*eth0)", "which network"),
    Case(
        "network-alias", "--network-alias x", "true",
        "network-scoped aliases? (are|is) only supported for (containers in )?user[- ]defined networks",
        "refused on the default bridge", code=125,
    ),
    _file(
        "oom-kill-disable", "-m 64m --oom-kill-disable", "memory/memory.oom_control", "oom_kill_disable 1",
        "out of memory: wait instead", "RES-10",
    ),
    Case("oom-score-adj", "--oom-score-adj 300", "cat /proc/self/oom_score_adj", "^300$", "preference", row="RES-10"),
    Case("pid", "--pid host", "readlink /proc/self/ns/pid", "{host:pid}", "host: the host's processes", row="ISO-03"),
    Case(
        "pid", "--pid container:donor", "ps", "sleep 1000", "container: another one's", before=(SLEEPER,), row="ISO-03",
    ),
    Case(
        "pids-limit", "--pids-limit 5", _shell("for i in 1 2 3 4 5 6 7; do sleep 1 & done; :"),
        "can't fork", "no process beyond it", code=2, row="RES-13",
    ),
    Case("platform", f"--platform linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), '') }",
         "uname -m", f"^{platform.machine()}$", "the image must be for it"),
    Case("privileged", "--privileged", "grep -E CapEff|Seccomp: /proc/self/status", "000001ffffffffff|Seccomp:\t0",
         "all capabilities and devices, no seccomp", row="ISO-04"),
    Case("publish", "-d --name it -p 127.0.0.1:8099:80", "sleep 1000", r"80/tcp -> 127\.0\.0\.1:8099",
         "a port of the host", after=("port it",)),
    Case("publish-all", "-d --name it --expose 70 -P", "sleep 1000", r"70/tcp -> ", "all exposed ports",
         after=("port it",)),
    Case("read-only", "--read-only", "touch /x", "Read-only file system", "root filesystem", code=1, row="ISO-09"),
    Case("restart", "-d --name it --restart on-failure:2", _shell("echo run; exit 3"), r"\Arun\nrun\nrun\n\Z",
         "runs again", after=("wait it", "logs it"), row="RUN-41"),
    Case("rm", "--name it --rm", "true", r"\A\Z", "removed at its end",
         after=("events --since 0 --until 0s --filter container=nosuch", ("ps", "-aq"))),
    Case("runtime", "--runtime nosuch", "true", "unknown or invalid runtime name: nosuch", "by name", code=125),
    Case("security-opt", "--security-opt seccomp=@/profile", "mkdir /x", "Operation not permitted", "seccomp profile",
         files=(("profile", DENY_MKDIR),), code=1, row="ISO-06"),
    Case("security-opt", "--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status", "\t0$",
         "no seccomp", row="ISO-06"),
    Case("security-opt", "--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", "\t1$",
         "no new privileges", row="ISO-08"),
    Case("security-opt", "--security-opt systempaths=unconfined", _shell("grep -c ' /proc/' /proc/mounts || true"),
         "^0$", "no masked paths", row="ISO-08"),
    Case("security-opt", "--security-opt label=disable", "true", r"\A\Z", "labels: accepted without SELinux", row="ISO-07"),
    Case("shm-size", "--shm-size 10m", "df /dev/shm", r"shm +10240 ", "size of /dev/shm", row="RES-11"),
    Case("stop-signal", "-d --name it --stop-signal USR1",
         _shell("trap 'echo usr1; exit 7' USR1; touch /ready; while :; do sleep 0.02; done"), "^usr1$",
         "what stop sends", after=(UNTIL_READY, "stop it", "logs it"), row="RUN-44"),
    Case("storage-opt", "--storage-opt size=10m", "true", "supported only for overlay over xfs with 'pquota'",
         "a bound of the writable layer; refused where the file system has no project quotas", code=125, row="RES-17"),
    Case("sysctl", "--sysctl net.ipv4.ip_forward=0 --sysctl kernel.msgmax=1000",
         "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", r"^0\n1000$", "namespaced parameters", row="ISO-10"),
    Case("sysctl", "--sysctl kernel.panic=1", "true", "sysctl 'kernel.panic=1' is not allowed", "... only", code=125,
         row="ISO-10"),
    Case("tmpfs", "--tmpfs /t:size=1m,mode=700", "grep /t /proc/mounts", "nosuid,nodev,noexec.*size=1024k,mode=700",
         "with options", row="ISO-09"),
    Case("tmpfs", "--tmpfs /t:foo", "true", r'invalid tmpfs option \["foo"\]', "... that exist", code=125, row="ISO-09"),
    Case("tty", "-t", "tty", "^/dev/pts/0", "a terminal"),
    Case("ulimit", "--ulimit nofile=100:200", _shell("ulimit -n; ulimit -Hn"), r"^100\n200$", "soft and hard", row="RES-14"),
    Case("use-api-socket", "--use-api-socket", "ls -l /var/run/docker.sock", "^s", "the engine's socket"),
    Case("user", "-u 5:6", "id", "uid=5 gid=6", "user and group"),
    Case("userns", "--userns host", "readlink /proc/self/ns/user", "{host:user}", "the host's", row="ISO-03"),
    Case("uts", "--uts host", "readlink /proc/self/ns/uts", "{host:uts}", "the host's name", row="ISO-03"),
    Case("volume", "-v @:/t:ro", _shell("cat /t/f; touch /t/x"), r"content\n(.*\n)*.*Read-only file system",
         "a directory or volume", files=(("f", "content\n"),), code=1),
    Case("volumes-from", "--volumes-from donor", "ls /v", "^mark$", "another container's volumes",
         before=(("run", "--name", "donor", "-v", "/v", "busybox", "touch", "/v/mark"),)),
    Case("workdir", "-w /a/b", "pwd", "^/a/b$", "made if missing"),
)  # fmt: skip

# flag -> (effect, file, function) of tests that need more than one run
ELSEWHERE: dict[str, tuple[str, str, str]] = {
    "detach-keys": (
        "keys that leave the container running",
        "tests/system/test_rows_run.py",
        "test_own_detach_keys_leave_the_container_running",
    ),
    **dict.fromkeys(
        ("health-cmd", "health-interval", "health-retries", "health-start-interval", "health-start-period"),
        (
            "health checks: see docs/engine.md",
            "tests/system/test_health.py",
            "test_the_flags_fill_the_configuration_and_can_switch_an_images_check_off",
        ),
    ),
    "health-timeout": (
        "a probe that takes longer is killed",
        "tests/system/test_health.py",
        "test_a_probe_that_took_too_long_is_killed",
    ),
    "no-healthcheck": (
        "switches the image's check off",
        "tests/system/test_health.py",
        "test_the_flags_fill_the_configuration_and_can_switch_an_images_check_off",
    ),
    "pull": ("before running", "tests/system/test_rows_run.py", "test_pull_options_of_run"),
    "sig-proxy": (
        "signals reach the program",
        "tests/system/test_rows_run.py",
        "test_ctrl_c_reaches_the_program_or_not",
    ),
    "stop-timeout": (
        "seconds until stop kills",
        "tests/system/test_rows_run.py",
        "test_the_default_time_of_stop_can_be_set_with_the_container",
    ),
}

# flag -> why nothing can be observed
UNOBSERVED: dict[str, str] = {
    "cpu-count": "Windows only: the client refuses it",
    "cpu-percent": "Windows only: the client refuses it",
    "disable-content-trust": "for the client alone, which asks a notary",
    "help": "prints the help",
    "io-maxbandwidth": "Windows only: the client refuses it",
    "io-maxiops": "Windows only: the client refuses it",
    "kernel-memory": "no limit of the kernel any more: ignored since API 1.42",
    "link": "links of the default bridge are discarded, with a warning",
    "quiet": "no registry client yet: nothing is pulled",
    "volume-driver": "the only driver is local",
}


def page() -> str:
    """Return docs/run-flags.md."""
    lines = [
        "# Flags of `docker run`",
        "",
        "What each flag does here, and the test that observes it in the container or on the kernel. Written by",
        "`python -m harness.run_flags` from the cases of `tests/system/test_run_flags.py`; a test keeps it current and fails on a",
        "flag of the docker CLI that is missing.",
        "",
        "| flag | effect | observed by |",
        "|---|---|---|",
    ]
    rows = [(case.flag, case.effect, f"`{' '.join(split(case.words))}`") for case in CASES]
    rows += [(flag, effect, f"`{file}`: `{name}`") for flag, (effect, file, name) in ELSEWHERE.items()]
    rows += [(flag, "-", reason) for flag, reason in UNOBSERVED.items()]
    rows.sort(key=lambda row: row[0])  # stable: the cases of one flag stay in order
    lines += [f"| `--{flag}` | {effect} | {how} |" for flag, effect, how in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
