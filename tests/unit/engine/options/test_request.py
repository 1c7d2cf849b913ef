"""From request and image to a checked configuration."""

from __future__ import annotations

import pytest

from boxship.base.errors import InvalidInput
from boxship.engine.observation.sysinfo import SysInfo
from boxship.engine.options import request
from boxship.engine.settings import EngineSettings
from boxship.spec.docker.container import ContainerConfig, HostConfig, LogConfig, PortBinding, RestartPolicy

SETTINGS = EngineSettings(data_root="/data", exec_root="/exec")
IMAGE = ContainerConfig(
    env=["PATH=/bin", "A=image"],
    cmd=["serve"],
    entrypoint=["/entry"],
    labels={"a": "1"},
    working_dir="/srv",
    user="app",
)


def checked(config: ContainerConfig | None = None, **host: object) -> HostConfig:
    return request.check(config or ContainerConfig(), HostConfig(**host), SETTINGS, SysInfo())


@pytest.mark.row("RUN-39")
def test_the_command_of_the_request_is_appended_to_the_images_entrypoint() -> None:
    merged = request.merge_image(ContainerConfig(cmd=["other", "arg"]), IMAGE)
    assert request.command(merged) == ("/entry", ["other", "arg"])


def test_without_a_command_the_images_is_used() -> None:
    assert request.command(request.merge_image(ContainerConfig(), IMAGE)) == ("/entry", ["serve"])


@pytest.mark.row("RUN-38")
def test_an_entrypoint_of_the_request_clears_the_images_command() -> None:
    merged = request.merge_image(ContainerConfig(entrypoint=["sh"]), IMAGE)
    assert request.command(merged) == ("sh", [])


def test_an_empty_entrypoint_removes_the_images() -> None:
    merged = request.merge_image(ContainerConfig(entrypoint=[""], cmd=["ls"]), IMAGE)
    assert request.command(merged) == ("ls", [])


def test_no_command_at_all_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no command specified"):
        request.command(request.merge_image(ContainerConfig(), ContainerConfig()))


@pytest.mark.row("RUN-35")
def test_environment_of_the_request_wins_over_the_images() -> None:
    merged = request.merge_image(ContainerConfig(env=["A=mine", "B=2"]), IMAGE)
    assert merged.env == ["PATH=/bin", "A=mine", "B=2"]


@pytest.mark.row("RUN-36")
def test_labels_are_inherited_and_overridden() -> None:
    merged = request.merge_image(ContainerConfig(labels={"a": "2", "b": "3"}), IMAGE)
    assert merged.labels == {"a": "2", "b": "3"}


def test_working_directory_and_user_come_from_the_image() -> None:
    merged = request.merge_image(ContainerConfig(), IMAGE)
    assert (merged.working_dir, merged.user) == ("/srv", "app")


def test_defaults_are_dockers() -> None:
    host = checked()
    assert host.network_mode == "bridge"
    assert host.ipc_mode == "private"
    assert host.shm_size == 67108864
    assert host.restart_policy == RestartPolicy(name="no")
    assert host.log_config == LogConfig(type="json-file", config={})


@pytest.mark.row("RES-08")
def test_memory_alone_allows_as_much_swap() -> None:
    assert checked(memory=536870912).memory_swap == 1073741824


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"restart_policy": RestartPolicy(name="sometimes")}, "invalid restart policy"),
        ({"restart_policy": RestartPolicy(name="always", maximum_retry_count=3)}, "maximum retry count"),
        ({"restart_policy": RestartPolicy(name="always"), "auto_remove": True}, "can't create 'AutoRemove' container"),
        ({"log_config": LogConfig(type="bogus")}, 'error looking up logging plugin bogus: plugin "bogus" not found'),
        (
            {"log_config": LogConfig(type="json-file", config={"x": "1"})},
            "unknown log opt 'x' for json-file log driver",
        ),
        (
            {"log_config": LogConfig(type="json-file", config={"max-size": "bogus"})},
            "failed to initialize logging driver: invalid size: 'bogus'",
        ),
        ({"port_bindings": {"80/bogus": []}}, 'invalid port specification: "80/bogus"'),
        ({"port_bindings": {"80/tcp": [PortBinding(host_port="99999")]}}, 'invalid port specification: "99999"'),
    ],
)
def test_what_docker_refuses_is_refused_in_its_words(host: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInput, match=text.replace("(", r"\(").replace("[", r"\[")):
        checked(**host)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"working_dir": "relative"}, "the working directory 'relative' is invalid, it needs to be an absolute path"),
        ({"hostname": "a" * 64}, "invalid hostname format"),
        ({"env": ["=x"]}, "invalid environment variable: =x"),
        ({"exposed_ports": {"0/tcp": {}}}, "invalid port specification"),
    ],
)
def test_bad_configurations_are_refused(config: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        checked(ContainerConfig(**config))


@pytest.mark.parametrize(("text", "size"), [("10m", 10485760), ("1.5GiB", 1610612736), ("512", 512), ("2kb", 2048)])
def test_sizes_are_binary(text: str, size: int) -> None:
    assert request.parse_size(text) == size


@pytest.mark.row("ISO-06")
def test_a_seccomp_profile_keeps_its_colons() -> None:
    host = HostConfig(security_opt=['seccomp={"a":"b=c"}', "label:disable", "no-new-privileges"])
    assert request.security_options(host) == [
        ("seccomp", '{"a":"b=c"}'),
        ("label", "disable"),
        ("no-new-privileges", "true"),
    ]


@pytest.mark.row("ISO-07", "ISO-09", "RES-17")
@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"security_opt": ["apparmor=mine"]}, "AppArmor is not enabled on this host"),
        ({"tmpfs": {"/t": "size=1m,foo"}}, 'invalid tmpfs option ["foo"]'),
        ({"storage_opt": {"size": "10q"}}, "invalid size: '10q'"),
        ({"storage_opt": {"inodes": "10"}}, "Unknown option inodes"),
    ],
)
def test_what_this_host_cannot_do_is_refused(host: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked(**host)
    assert str(caught.value).endswith(text)
