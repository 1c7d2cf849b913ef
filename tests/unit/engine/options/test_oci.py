"""The OCI document is a pure function of specification and surroundings."""

from __future__ import annotations

from typing import Any

import pytest

from boxship.base.errors import InvalidInput
from boxship.engine.model import ContainerSpec, ResolvedMount
from boxship.engine.options import oci
from boxship.spec.docker.container import ContainerConfig, HostConfig, Ulimit

ID = "ab" * 32


def compose(
    config: dict[str, Any] | None = None, mounts: list[ResolvedMount] | None = None, **host: Any
) -> dict[str, Any]:
    spec = ContainerSpec(
        id=ID,
        name="n",
        created_ns=1,
        image_id="sha256:x",
        config=ContainerConfig(**(config or {})),
        host_config=HostConfig(
            **{"ipc_mode": "private", "cgroupns_mode": "private", "network_mode": "bridge", "shm_size": 64, **host}
        ),
        path="/bin/sh",
        args=["-c", "true"],
        mounts=mounts or [],
    )
    surroundings = oci.Surroundings(
        files_dir="/data/containers/x",
        rootfs="/merged",
        cgroup_path="/boxship/x",
        network_namespace="/exec/netns/1",
        hostname="host",
    )
    return oci.compose(spec, surroundings)


def test_the_process_has_dockers_environment() -> None:
    process = compose({"env": ["A=1", "PATH=/mine"], "tty": True})["process"]
    assert process["env"] == ["PATH=/mine", "HOSTNAME=host", "TERM=xterm", "A=1"]
    assert process["args"] == ["/bin/sh", "-c", "true"]


@pytest.mark.row("ISO-05")
def test_the_default_capabilities_are_dockers_fourteen() -> None:
    sets = compose()["process"]["capabilities"]
    assert len(sets["bounding"]) == 14
    assert sets["effective"] == sets["permitted"] == sets["bounding"]
    assert "inheritable" not in sets
    assert "ambient" not in sets


@pytest.mark.parametrize(
    ("add", "drop", "has", "lacks"),
    [
        (["NET_ADMIN"], None, "CAP_NET_ADMIN", "CAP_SYS_ADMIN"),
        (["ALL"], ["SYS_ADMIN"], "CAP_NET_ADMIN", "CAP_SYS_ADMIN"),
        (["cap_chown"], ["ALL"], "CAP_CHOWN", "CAP_KILL"),
        (None, ["KILL"], "CAP_CHOWN", "CAP_KILL"),
    ],
)
def test_capabilities_are_added_and_dropped(
    add: list[str] | None, drop: list[str] | None, has: str, lacks: str
) -> None:
    names = oci.capabilities(HostConfig(cap_add=add, cap_drop=drop))
    assert has in names
    assert lacks not in names


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(InvalidInput, match='invalid CapAdd: unknown capability: "CAP_BOGUS"'):
        oci.capabilities(HostConfig(cap_add=["BOGUS"]))


@pytest.mark.row("ISO-11")
def test_hosts_hostname_and_resolv_conf_are_bound() -> None:
    binds = {m["destination"]: m["source"] for m in compose()["mounts"] if m["type"] == "bind"}
    assert binds == {f"/etc/{name}": f"/data/containers/x/{name}" for name in ("resolv.conf", "hostname", "hosts")}


def test_a_user_mount_on_an_injected_file_replaces_it() -> None:
    mount = ResolvedMount(type="bind", source="/my/hosts", target="/etc/hosts")
    sources = [m["source"] for m in compose(mounts=[mount])["mounts"] if m["destination"] == "/etc/hosts"]
    assert sources == ["/my/hosts"]


def test_mounts_come_parents_first() -> None:
    mounts = [
        ResolvedMount(type="bind", source="/a", target="/x/y"),
        ResolvedMount(type="bind", source="/b", target="/x"),
    ]
    order = [m["destination"] for m in compose(mounts=mounts)["mounts"] if m["destination"].startswith("/x")]
    assert order == ["/x", "/x/y"]


@pytest.mark.row("ISO-04")
def test_privileged_has_everything_and_no_masks() -> None:
    document = compose(privileged=True, cgroupns_mode="host")
    assert len(document["process"]["capabilities"]["bounding"]) == 41
    assert "maskedPaths" not in document["linux"]
    assert document["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in next(m for m in document["mounts"] if m["destination"] == "/sys")["options"]


def test_namespaces_follow_the_modes() -> None:
    kinds = {n["type"]: n.get("path") for n in compose(pid_mode="host", uts_mode="host")["linux"]["namespaces"]}
    assert kinds == {"mount": None, "network": "/exec/netns/1", "ipc": None, "cgroup": None}


def test_a_host_uts_namespace_gets_no_hostname() -> None:
    assert "hostname" not in compose(uts_mode="host")


@pytest.mark.row("RES-06")
def test_cpus_become_a_quota() -> None:
    assert oci.resources(HostConfig(nano_cpus=500_000_000), {}) == {"cpu": {"period": 100_000, "quota": 50_000}}


def test_no_limits_give_no_resources() -> None:
    assert oci.resources(HostConfig(), {}) == {}


def test_ulimits_override_the_daemons_by_name() -> None:
    spec_limits = compose(ulimits=[Ulimit(name="nofile", soft=10, hard=-1)])["process"]["rlimits"]
    assert spec_limits == [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**64 - 1}]


@pytest.mark.parametrize("text", ["c 1:3", "x 1:3 rwm", "c one:3 rwm", "c 1:3 rwx"])
def test_a_bad_device_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid device cgroup rule format"):
        compose(device_cgroup_rules=[text])


def test_exec_inherits_environment_and_directory() -> None:
    base = compose({"env": ["A=1"], "working_dir": "/srv"})["process"]
    process = oci.exec_process(base, args=["ls"], env=["A=2", "B"], cwd="", tty=True, privileged=False)
    assert process["cwd"] == "/srv"
    assert "A=2" in process["env"]
    assert "TERM=xterm" in process["env"]
    assert base["args"] == ["/bin/sh", "-c", "true"]
