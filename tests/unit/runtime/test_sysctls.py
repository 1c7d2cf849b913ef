import pytest

from boxship.runtime import sysctls
from boxship.runtime.failure import RuntimeFailure

ALL = frozenset(("ipc", "network", "uts", "pid", "mount"))


@pytest.mark.parametrize(
    "name", ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "kernel.msgmax", "fs.mqueue.msg_max"]
)
def test_parameters_of_own_namespaces_are_allowed(name: str) -> None:
    sysctls.check(name, ALL)


@pytest.mark.parametrize(
    ("name", "namespaces"),
    [
        ("net.ipv4.ip_forward", frozenset(("ipc",))),
        ("kernel.shmmax", frozenset(("network",))),
        ("kernel.core_pattern", ALL),
        ("kernel.hostname", ALL),
        ("kernel.domainname", frozenset(("ipc",))),
        ("vm.overcommit_memory", ALL),
        ("kernel.msgmax/../core_pattern", ALL),
    ],
)
def test_parameters_of_the_host_are_refused(name: str, namespaces: frozenset[str]) -> None:
    with pytest.raises(RuntimeFailure):
        sysctls.check(name, namespaces)
