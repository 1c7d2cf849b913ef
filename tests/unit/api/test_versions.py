import msgspec
import pytest

from boxship.api import versions
from boxship.api.versions import ANSWERS, ApiVersion, adapt_create, reshape
from boxship.spec.docker.container import (
    ContainerConfig,
    ContainerInspect,
    ContainerState,
    CreateRequest,
    GraphDriver,
    HealthConfig,
    HostConfig,
    Mount,
    NetworkSettings,
)
from boxship.spec.docker.image import ImageInspect, ImageMetadata, ImageSummary, RootFS
from boxship.spec.docker.network import EndpointSettings

ID = "0123456789ab" + "c" * 52


def version(minor):
    return ApiVersion((1, minor))


def container():
    return ContainerInspect(
        id=ID,
        created="",
        path="sh",
        args=[],
        state=ContainerState(),
        image="",
        host_config=HostConfig(annotations={"a": "b"}),
        graph_driver=GraphDriver(name="overlay2"),
        config=ContainerConfig(),
        network_settings=NetworkSettings(
            ip_address="172.17.0.2", networks={"bridge": EndpointSettings(aliases=["web"], dns_names=["web"])}
        ),
    )


def image():
    return ImageInspect(
        id="sha256:" + ID,
        size=5,
        config=ContainerConfig(),
        graph_driver=GraphDriver(name="overlay2"),
        root_fs=RootFS(),
        metadata=ImageMetadata(),
    )


@pytest.mark.parametrize(("text", "numbers"), [("1.41", (1, 41)), ("1", (1,)), ("1..2", (1, 0, 2)), (".", (0, 0))])
def test_versions_are_numbers(text, numbers):
    assert ApiVersion.parse(text) == numbers


def test_minor_versions_are_ordered_as_numbers():
    assert ApiVersion.parse("1.9") < ApiVersion.parse("1.10")


@pytest.mark.parametrize("document", ANSWERS)
def test_every_rule_covers_a_part_of_the_served_versions(document):
    for rule in ANSWERS[document]:
        assert versions.FIRST <= rule.since < rule.before <= versions.LAST


@pytest.mark.parametrize(("minor", "present"), [(24, True), (51, True), (52, False), (56, False)])
def test_flat_addresses_left_in_1_52(minor, present):
    settings = reshape("container", version(minor), container())["NetworkSettings"]
    assert ("IPAddress" in settings) is present
    assert "Networks" in settings


@pytest.mark.parametrize(("minor", "aliases"), [(44, ["web", "0123456789ab"]), (45, ["web"])])
def test_the_short_id_was_an_alias_before_1_45(minor, aliases):
    shaped = reshape("container", version(minor), container())
    assert shaped["NetworkSettings"]["Networks"]["bridge"]["Aliases"] == aliases


@pytest.mark.parametrize(
    ("minor", "section", "name", "present"),
    [
        (41, "HostConfig", "KernelMemory", True),
        (42, "HostConfig", "KernelMemory", False),
        (42, "HostConfig", "Annotations", False),
        (43, "HostConfig", "Annotations", True),
    ],
)
def test_host_config_of_old_versions(minor, section, name, present):
    assert (name in reshape("container", version(minor), container())[section]) is present


def test_fields_that_are_not_set_are_left_out():
    config = reshape("container", version(56), container())["Config"]
    assert "Healthcheck" not in config
    assert "StopTimeout" not in config
    assert config["Env"] is None


@pytest.mark.parametrize(
    ("minor", "present", "absent"),
    [
        (24, {"VirtualSize", "Container", "ContainerConfig", "Parent"}, set()),
        (44, {"Container", "Parent"}, {"VirtualSize"}),
        (45, {"Parent"}, {"Container", "ContainerConfig", "VirtualSize"}),
        (52, set(), {"Parent", "DockerVersion"}),
    ],
)
def test_image_inspect(minor, present, absent):
    shaped = reshape("image", version(minor), image())
    assert present <= set(shaped)
    assert not absent & set(shaped)


@pytest.mark.parametrize(("minor", "present"), [(49, True), (50, False)])
def test_image_config_lost_container_fields_in_1_50(minor, present):
    assert ("Hostname" in reshape("image", version(minor), image())["Config"]) is present


@pytest.mark.parametrize(("minor", "tags"), [(42, ["<none>:<none>"]), (43, [])])
def test_images_without_a_name(minor, tags):
    summary = ImageSummary(id="x", repo_tags=[], repo_digests=[], created=0, size=7)
    [shaped] = reshape("image-summary", version(minor), [summary])
    assert msgspec.to_builtins(shaped)["RepoTags"] == tags


def test_disk_usage_totals_from_1_52():
    usage = {
        "LayersSize": 100,
        "Images": [{"Containers": 1, "Size": 60}, {"Containers": 0, "Size": 40, "SharedSize": 10}],
        "Containers": [{"State": "running", "SizeRw": 5}, {"State": "exited", "SizeRw": 7}],
        "Volumes": [{"UsageData": {"Size": 3, "RefCount": 1}}, {"UsageData": {"Size": -1, "RefCount": 0}}],
        "BuildCache": None,
    }
    shaped = reshape("disk-usage", version(52), usage)
    totals = {
        kind: tuple(s[k] for k in ("ActiveCount", "TotalCount", "TotalSize", "Reclaimable"))
        for kind, s in shaped.items()
    }
    assert totals == {
        "ImageUsage": (1, 2, 100, 30),
        "ContainerUsage": (1, 2, 12, 7),
        "VolumeUsage": (1, 2, 3, 0),
        "BuildCacheUsage": (0, 0, 0, 0),
    }


def test_a_document_that_no_rule_touches_is_not_copied():
    usage = {"LayersSize": 1}
    assert reshape("disk-usage", version(45), usage) is usage


@pytest.mark.parametrize(
    ("minor", "field", "value"),
    [
        (24, "auto_remove", False),
        (25, "auto_remove", True),
        (39, "ipc_mode", "shareable"),
        (40, "ipc_mode", ""),
        (40, "cgroupns_mode", "host"),
        (41, "cgroupns_mode", ""),
        (41, "console_size", None),
        (42, "console_size", [1, 2]),
        (42, "annotations", None),
        (43, "annotations", {"a": "b"}),
    ],
)
def test_create_requests_mean_what_their_version_knew(minor, field, value):
    host = HostConfig(auto_remove=True, console_size=[1, 2], annotations={"a": "b"})
    adapted = adapt_create(version(minor), CreateRequest(host_config=host))
    assert getattr(adapted.host_config, field) == value


def test_a_create_request_without_a_host_config_gets_one():
    assert adapt_create(version(56), CreateRequest()).host_config == HostConfig()


def test_start_interval_and_recursive_read_only_came_in_1_44():
    request = CreateRequest(
        healthcheck=HealthConfig(start_interval=5), host_config=HostConfig(mounts=[Mount(type="bind", source="/a")])
    )
    old, new = adapt_create(version(43), request), adapt_create(version(44), request)
    assert old.healthcheck.start_interval == 0
    assert old.host_config.mounts[0].bind_options == {"ReadOnlyNonRecursive": True}
    assert (new.healthcheck.start_interval, new.host_config.mounts[0].bind_options) == (5, None)
