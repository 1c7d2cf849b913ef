"""Which mounts of a container a restore has to provide, and from where."""

import pytest

from boxship.linux import mountinfo
from boxship.runtime.checkpoints.mounts import external, sources

pytestmark = pytest.mark.row("RUN-50")

HOST = mountinfo.parse(
    """20 1 254:0 / / rw - ext4 /dev/vda rw
21 20 0:5 / /proc rw - proc proc rw
22 20 0:6 / /sys rw - sysfs sysfs rw
23 20 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
24 20 0:31 / /run rw - tmpfs tmpfs rw
25 20 0:50 / /data/overlay2/x/merged rw - overlay overlay rw
"""
)
CONTAINER = mountinfo.parse(
    """91 48 0:50 / / rw - overlay overlay rw
92 91 0:42 / /proc rw - proc proc rw
93 91 0:43 / /dev rw - tmpfs tmpfs rw
95 91 0:6 / /sys ro - sysfs sysfs ro
97 95 0:30 /boxship/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
108 91 254:0 /volumes/v/_data /data rw - ext4 /dev/vda rw
109 108 0:31 /below /data/below rw - tmpfs tmpfs rw
111 91 254:0 /containers/1/hosts /etc/hosts rw - ext4 /dev/vda rw
112 92 0:42 /bus /proc/bus ro - proc proc rw
113 92 0:43 /null /proc/keys rw - tmpfs tmpfs rw
114 91 0:5 / /host/proc rw - proc proc rw
"""
)


def test_what_lies_on_the_host_is_external_and_what_is_the_containers_own_is_not() -> None:
    found = external(CONTAINER, HOST, bound=["/data", "/host/proc"])
    assert [entry["target"] for entry in found] == [
        "/sys/fs/cgroup/memory",
        "/data",
        "/data/below",
        "/etc/hosts",
        "/host/proc",
    ]


def test_a_kernel_file_system_that_nobody_bound_is_made_anew() -> None:
    assert "/sys" not in [entry["target"] for entry in external(CONTAINER, HOST, bound=[])]


def test_sources_are_those_of_now() -> None:
    found = [{"target": "/data"}, {"target": "/data/below/deep"}, {"target": "/etc/hosts"}]
    binds = [{"destination": "/data/", "source": "/volumes/w"}, {"destination": "/etc/hosts", "source": "/c/2/hosts"}]
    assert sources(found, binds, {}) == {
        "/data": "/volumes/w",
        "/data/below/deep": "/volumes/w/below/deep",
        "/etc/hosts": "/c/2/hosts",
    }


def test_a_cgroup_is_the_containers_new_one() -> None:
    found = [{"target": "/sys/fs/cgroup/cpu", "cgroup": "rw,cpu,cpuacct"}]
    assert sources(found, [], {"cpu": "/sys/fs/cgroup/cpu/boxship/2"}) == {
        "/sys/fs/cgroup/cpu": "/sys/fs/cgroup/cpu/boxship/2"
    }


@pytest.mark.parametrize("entry", [{"target": "/gone"}, {"target": "/sys/fs/cgroup/x", "cgroup": "rw,x"}])
def test_a_mount_that_the_container_has_no_more_is_named(entry) -> None:
    with pytest.raises(ValueError, match=f"the container has no mount at {entry['target']} any more"):
        sources([entry], [{"destination": "/other", "source": "/o"}], {"memory": "/m"})
