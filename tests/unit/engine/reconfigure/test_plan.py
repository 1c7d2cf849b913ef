"""What a specification becomes by changes."""

from __future__ import annotations

import pytest

from boxship.base.errors import InvalidInput, NotFound
from boxship.engine.model import ContainerSpec, ResolvedMount
from boxship.engine.reconfigure import plan
from boxship.networks import PublishedPort
from boxship.spec.boxship.changes import ContainerChanges
from boxship.spec.docker.container import ContainerConfig, HostConfig, Mount, PortBinding

B = PortBinding


def at(text: str) -> str:
    return text or "0.0.0.0"


def spec(bindings: dict[str, list[PortBinding] | None] | None = None, **fields: object) -> ContainerSpec:
    host = HostConfig(
        port_bindings=bindings, binds=["/src:/a:ro", "/anonymous"], mounts=[Mount(type="tmpfs", target="/b/")]
    )
    mounts = [
        ResolvedMount(type="bind", source="/src", target="/a"),
        ResolvedMount(type="tmpfs", source="", target="/b"),
    ]
    values = {"config": ContainerConfig(), "host_config": host, "mounts": mounts, **fields}
    return ContainerSpec(id="i" * 64, name="web", created_ns=0, image_id="", path="", args=[], **values)


def published(host_port: int, container_port: int = 80, host_ip: str = "0.0.0.0") -> PublishedPort:
    return PublishedPort(
        protocol="tcp", host_ip=host_ip, host_port=host_port, container_ip="172.17.0.2", container_port=container_port
    )


def remove(**wanted: str) -> ContainerChanges:
    return ContainerChanges(remove_ports={"80/tcp": [B(**wanted)]})


MIXED = {"80/tcp": [B(), B(host_port="8080"), B(host_port="9000-9010"), B(host_ip="127.0.0.1", host_port="8080")]}
GOT = [published(8080), published(9000), published(32768), published(8080, host_ip="127.0.0.1")]


@pytest.mark.parametrize(
    ("wanted", "ended"),
    [
        ({}, GOT),
        ({"host_port": "32768"}, [GOT[2]]),
        ({"host_port": "9000"}, [GOT[1]]),
        ({"host_port": "9000-9010"}, [GOT[1]]),
        ({"host_port": "8080"}, [GOT[0], GOT[3]]),
        ({"host_port": "8080", "host_ip": "127.0.0.1"}, [GOT[3]]),
        ({"host_ip": "127.0.0.1"}, [GOT[3]]),
    ],
)
def test_a_binding_is_named_by_what_was_typed_or_by_what_it_got(
    wanted: dict[str, str], ended: list[PublishedPort]
) -> None:
    ports = plan.ports(spec(MIXED), remove(**wanted), GOT, at)
    assert set(ports.ended) == set(ended)
    assert len(ports.bindings.get("80/tcp") or []) == 4 - len(ended)


def test_bindings_of_a_stopped_container_go_by_their_text() -> None:
    ports = plan.ports(spec(MIXED), remove(host_port="8080", host_ip="0.0.0.0"), [], at)
    assert ports.bindings["80/tcp"] == [MIXED["80/tcp"][0], MIXED["80/tcp"][2], MIXED["80/tcp"][3]]
    assert ports.ended == []


@pytest.mark.parametrize("wanted", [{"host_port": "1"}, {"host_ip": "10.0.0.1"}])
def test_a_binding_that_is_not_there_cannot_end(wanted: dict[str, str]) -> None:
    with pytest.raises(NotFound, match="No public port"):
        plan.ports(spec(MIXED), remove(**wanted), GOT, at)


def test_a_binding_is_not_made_twice_but_for_random_ports() -> None:
    twice = ContainerChanges(add_ports={"80/tcp": [B(host_port="8080")]})
    with pytest.raises(InvalidInput, match="already published"):
        plan.ports(spec(MIXED), twice, GOT, at)
    again = ContainerChanges(add_ports={"80/tcp": [B()]}, remove_ports={"80/tcp": []})
    assert plan.ports(spec(MIXED), again, GOT, at).bindings == {"80/tcp": [B()]}


def test_the_configuration_follows_in_order_removals_first() -> None:
    old = spec(
        config=ContainerConfig(
            env=["A=1", "B=2"], labels={"x": "1", "y": "2"}, exposed_ports={"80/tcp": {}, "81/tcp": {}}
        )
    )
    changes = ContainerChanges(
        set_env=["B=3", "C=4"],
        remove_env=["A", "MISSING"],
        set_labels={"x": "9"},
        remove_labels=["x", "y"],
        remove_ports={"80/tcp": [], "81/tcp": []},
        add_ports={"82/tcp": [B()]},
    )
    config = plan.config(old, changes, {"82/tcp": [B()]}, {"81/tcp"})
    assert config.env == ["B=3", "C=4"]
    assert config.labels == {"x": "9"}
    assert config.exposed_ports == {"81/tcp": {}, "82/tcp": {}}


def test_removed_mounts_leave_the_host_configuration_too() -> None:
    old = spec()
    changes = ContainerChanges(remove_mounts=["/a/", "/b"], add_binds=["/new:/c"])
    gone = plan.removed_mounts(old, changes)
    assert [mount.target for mount in gone] == ["/a", "/b"]
    host = plan.host_config(old.host_config, changes, {}, {"/a", "/b"})
    assert (host.binds, host.mounts) == (["/anonymous", "/new:/c"], [])
    with pytest.raises(NotFound, match="No mount at '/c' in web"):
        plan.removed_mounts(old, ContainerChanges(remove_mounts=["/c"]))


@pytest.mark.parametrize(
    "changes",
    [
        ContainerChanges(apply="soon"),
        ContainerChanges(set_env=["A"]),
        ContainerChanges(set_env=["=1"]),
        ContainerChanges(remove_env=["A=1"]),
        ContainerChanges(set_labels={"": "x"}),
    ],
)
def test_requests_that_mean_nothing_are_refused(changes: ContainerChanges) -> None:
    with pytest.raises(InvalidInput):
        plan.check(changes)
