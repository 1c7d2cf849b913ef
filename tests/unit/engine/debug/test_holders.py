"""Throw-away containers for debugging shells."""

from __future__ import annotations

from boxship.engine.debug import holders
from boxship.engine.model import ContainerSpec, ResolvedMount
from boxship.spec.docker.container import ContainerConfig, HostConfig, PortBinding, RestartPolicy


def spec(**host: object) -> ContainerSpec:
    return ContainerSpec(
        id="i" * 64,
        name="web",
        created_ns=0,
        image_id="sha256:1",
        config=ContainerConfig(image="app:1", env=["A=1"], user="app", tty=True, labels={"a": "b"}),
        host_config=HostConfig(**host),
        path="/app",
        args=[],
        mounts=[
            ResolvedMount(type="bind", source="/src", target="/a", recursive=False),
            ResolvedMount(type="volume", source="/v/_data", target="/b", name="vol", subpath="x"),
            ResolvedMount(type="tmpfs", source="", target="/c"),
        ],
    )


def test_a_stopped_containers_mounts_are_read_only_and_its_ports_its_own() -> None:
    host = HostConfig(
        port_bindings={"80/tcp": [PortBinding(host_port="80")]},
        restart_policy=RestartPolicy(name="always"),
        network_mode="container:other",
        pid_mode="container:other",
        readonly_rootfs=True,
        memory=1 << 22,
        binds=["/src:/a"],
    )
    wanted = holders.of_stopped(spec(**{name: getattr(host, name) for name in HostConfig.__struct_fields__}), "/tools")
    got = wanted.host_config
    assert got is not None
    assert [(m.type, m.source, m.target, m.read_only) for m in got.mounts or []] == [
        ("bind", "/src", "/a", True),
        ("volume", "vol", "/b", True),
    ]
    assert (got.port_bindings, got.network_mode, got.pid_mode, got.readonly_rootfs) == (None, "none", "", False)
    assert (got.restart_policy.name, got.auto_remove, got.memory) == ("no", True, 0)
    assert (wanted.image, wanted.env, wanted.user, wanted.tty, wanted.labels) == ("sha256:1", ["A=1"], "0", False, None)
    assert got.binds == ["/tools:/sys/firmware:ro"]


def test_tracing_is_allowed_even_where_it_was_dropped() -> None:
    got = holders.of_stopped(spec(cap_add=["NET_ADMIN"], cap_drop=["cap_sys_ptrace", "ALL"]), "/tools").host_config
    assert got is not None
    assert (got.cap_add, got.cap_drop) == (["NET_ADMIN", "SYS_PTRACE"], ["ALL"])


def test_tools_of_an_image_share_the_namespaces_of_their_target() -> None:
    got = holders.beside(spec(network_mode="bridge"), "tools:1", "/tools").host_config
    assert got is not None
    assert (got.pid_mode, got.network_mode) == (f"container:{'i' * 64}", f"container:{'i' * 64}")
    host = holders.beside(spec(network_mode="host"), "tools:1", "/tools").host_config
    assert host is not None
    assert host.network_mode == "host"
