"""Volumes of a plugin, made, mounted, listed and removed by both command lines; and plugins that are gone or lie."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox
from harness.plugins import VolumePlugin
from harness.waiting import until

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine that does not wait for plugins which are gone."""
    engine = Engine(options=["--plugin-wait=0"])
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture
def plugin(engine: Engine, tmp_path: Path) -> Iterator[VolumePlugin]:
    plugin = VolumePlugin(engine.plugins, "sample", tmp_path / "home")
    plugin.listen()
    yield plugin
    for container in engine.docker("ps", "-aq").stdout.split():
        engine.docker("rm", "-f", container)
    for name in list(plugin.volumes):
        engine.docker("volume", "rm", name)
    plugin.close()


def unmounted(plugin: VolumePlugin, name: str) -> bool:
    return not plugin.mounts.get(name)


@pytest.mark.row("VOL-14")
def test_a_volume_of_a_plugin_lives_from_create_to_remove(cli: CLI, engine: Engine, plugin: VolumePlugin) -> None:
    cli("volume", "create", "-d", "sample", "-o", "size=3", "--label", "a=b", "data")
    assert ("VolumeDriver.Create", {"Name": "data", "Opts": {"size": "3"}}) in plugin.calls
    found = json.loads(cli("volume", "inspect", "data").stdout)[0]
    assert (found["Driver"], found["Scope"], found["Labels"]) == ("sample", "global", {"a": "b"})
    assert (found["Options"], found["Status"]) == ({"size": "3"}, {"Tier": "sample", "Opts": {"size": "3"}})
    assert cli("volume", "ls", "--format", "{{.Driver}} {{.Name}}").stdout == "sample data\n"
    assert cli("volume", "ls", "-qf", "driver=local").stdout == ""
    assert "sample" in cli("info", "-f", "{{.Plugins.Volume}}").stdout
    cli("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/f")
    assert (plugin.home / "data/f").read_text() == "kept\n"
    until(lambda: unmounted(plugin, "data"))
    cli("volume", "rm", "data")
    assert plugin.volumes == {}
    assert cli("volume", "ls", "-q").stdout == ""


@pytest.mark.row("VOL-14")
def test_containers_are_counted_by_their_ids(engine: Engine, plugin: VolumePlugin) -> None:
    cli = engine.docker
    one = cli("run", "-d", "--volume-driver", "sample", "-v", "shared:/p", "-v", "shared:/q", "busybox", "sleep", "999")
    long = "type=volume,source=shared,target=/p,volume-driver=sample"
    two = cli("run", "-d", "--mount", long, "busybox", "sleep", "999").stdout.strip()
    assert plugin.mounts["shared"] == {one.stdout.strip(), two}
    assert plugin.names().count("VolumeDriver.Mount") == 2
    point = json.loads(cli("inspect", two).stdout)[0]["Mounts"][0]
    assert (point["Driver"], point["Source"], point["Name"]) == ("sample", str(plugin.home / "shared"), "shared")
    refused = cli("volume", "rm", "shared", check=False)
    assert "remove shared: volume is in use" in refused.stderr
    cli("rm", "-f", one.stdout.strip())
    until(lambda: plugin.mounts["shared"] == {two})
    cli("restart", "-t", "0", two)
    assert plugin.mounts["shared"] == {two}
    cli("rm", "-f", two)
    until(lambda: unmounted(plugin, "shared"))


@pytest.mark.row("VOL-14")
def test_whoever_names_no_driver_gets_the_volume_that_a_plugin_has(engine: Engine, plugin: VolumePlugin) -> None:
    cli = engine.docker
    plugin.on_create({"Name": "foreign"})
    assert cli("volume", "ls", "--format", "{{.Driver}} {{.Name}}").stdout == "sample foreign\n"
    (plugin.home / "foreign/f").write_text("theirs")
    assert cli("run", "--rm", "-v", "foreign:/d", "busybox", "cat", "/d/f").stdout == "theirs"
    clash = cli("volume", "create", "foreign", check=False)
    assert "driver 'sample' already has volume 'foreign'" in clash.stderr
    until(lambda: unmounted(plugin, "foreign"))
    cli("volume", "rm", "foreign")
    assert plugin.volumes == {}


def test_a_create_that_fails_leaves_what_the_plugin_had(engine: Engine, plugin: VolumePlugin) -> None:
    plugin.on_create({"Name": "theirs"})
    mounts = [
        f"type=volume,source={name},target={target},volume-driver=sample"
        for name, target in (("theirs", "/a"), ("fresh", "/b"), ("never", "/a"))
    ]
    flags = [word for mount in mounts for word in ("--mount", mount)]
    failed = engine.docker("create", *flags, "busybox", check=False)
    assert "Duplicate mount point: /a" in failed.stderr
    assert {"fresh", "theirs"} <= plugin.volumes.keys()
    engine.docker("volume", "rm", "theirs")  # nobody uses it


def test_running_containers_get_and_lose_volumes_of_plugins(engine: Engine, plugin: VolumePlugin) -> None:
    engine.docker("volume", "create", "-d", "sample", "data")
    engine.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "scratch")
    one = engine.docker("run", "-d", "busybox", "sleep", "999").stdout.strip()
    engine.boxship("update", "--mount-add", "data:/d", "--mount-add", "scratch:/s", one)
    assert plugin.mounts["data"] == {one}
    engine.docker("exec", one, "sh", "-c", "echo live > /d/f")
    assert (plugin.home / "data/f").read_text() == "live\n"
    assert "tmpfs" in engine.docker("exec", one, "grep", " /s ", "/proc/mounts").stdout
    engine.boxship("update", "--mount-rm", "/d", "--mount-rm", "/s", one)
    until(lambda: unmounted(plugin, "data"))
    until(lambda: "volumes/scratch/_data" not in Path("/proc/self/mountinfo").read_text())
    engine.docker("rm", "-f", one)
    engine.docker("volume", "rm", "scratch")


def test_an_empty_volume_of_a_plugin_gets_what_the_image_has(engine: Engine, plugin: VolumePlugin) -> None:
    engine.docker("create", "--volume-driver", "sample", "-v", "filled:/bin", "busybox", "true")
    until(lambda: unmounted(plugin, "filled"))
    assert (plugin.home / "filled/sh").exists()


@pytest.mark.parametrize("method", ["VolumeDriver.Create", "VolumeDriver.Mount"])
def test_what_a_plugin_refuses_leaves_nothing(engine: Engine, plugin: VolumePlugin, method: str) -> None:
    plugin.refused[method] = "the array is on fire"
    refused = engine.docker("run", "--volume-driver", "sample", "-v", "bad:/p", "busybox", "true", check=False)
    assert refused.returncode == 125
    assert "the array is on fire" in refused.stderr
    if method == "VolumeDriver.Create":
        assert "create bad: the array is on fire" in refused.stderr
        assert engine.docker("volume", "ls", "-q").stdout == ""
    else:
        assert "error while mounting volume 'bad'" in refused.stderr
    assert "VolumeDriver.Unmount" not in plugin.names()


def test_places_that_are_no_volumes_are_refused(engine: Engine, plugin: VolumePlugin) -> None:
    for place in ("relative", "/", "/proc/1/root", "/no/such/place"):
        plugin.raw["VolumeDriver.Mount"] = json.dumps({"Mountpoint": place}).encode()
        plugin.calls.clear()
        flags = ("--rm", "--volume-driver", "sample", "-v", "bad:/p:nocopy")
        refused = engine.docker("run", *flags, "busybox", "true", check=False)
        assert "error while mounting volume 'bad'" in refused.stderr
        until(lambda: "VolumeDriver.Unmount" in plugin.names())


def test_the_engines_own_directories_are_no_volumes(engine: Engine, plugin: VolumePlugin, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(engine.data_root / "containers")
    for place in (engine.data_root, engine.exec_root, engine.root, tmp_path / "link"):
        plugin.raw["VolumeDriver.Mount"] = json.dumps({"Mountpoint": str(place)}).encode()
        refused = engine.docker(
            "run", "--volume-driver", "sample", "-v", "b2:/p:nocopy", "busybox", "true", check=False
        )
        assert "which is no place" in refused.stderr


def test_nonsense_is_an_error_and_the_engine_goes_on(engine: Engine, plugin: VolumePlugin) -> None:
    flags = ("--rm", "--volume-driver", "sample", "-v", "odd:/p:nocopy")
    for answer, words in (
        (b"x" * 5_000_000, "is longer than 4194304 bytes"),
        (b'{"Mountpoint": ["/"]}', "makes no sense"),
    ):
        plugin.raw["VolumeDriver.Mount"] = answer
        assert words in engine.docker("run", *flags, "busybox", "true", check=False).stderr
    del plugin.raw["VolumeDriver.Mount"]
    assert engine.docker("run", *flags, "busybox", "echo", "on").stdout == "on\n"


def test_while_a_plugin_hangs_all_else_goes_on(engine: Engine, plugin: VolumePlugin) -> None:
    plugin.held["VolumeDriver.Create"] = threading.Event()
    command = [*engine.namespace.prefix(), "docker", "volume", "create", "-d", "sample", "slow"]
    with subprocess.Popen(command, env=engine.client_environment(), stdout=subprocess.PIPE, text=True) as waiting:
        plugin.wait_for("VolumeDriver.Create")
        engine.docker("volume", "create", "own")
        assert engine.docker("run", "--rm", "-v", "own:/p", "busybox", "echo", "on").stdout == "on\n"
        engine.docker("volume", "rm", "own")
        plugin.held["VolumeDriver.Create"].set()
        assert waiting.communicate(timeout=60)[0] == "slow\n"


@pytest.mark.row("VOL-14")
def test_a_volume_whose_plugin_is_gone_is_removed_by_force(cli: CLI, plugin: VolumePlugin) -> None:
    cli("volume", "create", "-d", "sample", "lost")
    plugin.close()
    lost = cli("volume", "rm", "lost", check=False)
    assert 'remove lost: error looking up volume plugin sample: plugin "sample" not found' in lost.stderr
    shown = cli("volume", "inspect", "lost", check=False)
    assert 'error while checking if volume "lost" exists in driver "sample"' in shown.stderr
    assert "lost" in cli("volume", "ls", "-q").stdout
    cli("volume", "rm", "-f", "lost")
    assert "lost" not in cli("volume", "ls", "-q").stdout
    plugin.volumes.clear()


@pytest.mark.row("VOL-14")
def test_unknown_and_unfit_plugins_are_named(engine: Engine) -> None:
    cli = engine.docker
    unknown = cli("volume", "create", "-d", "nosuch", "v1", check=False)
    assert 'create v1: error looking up volume plugin nosuch: plugin "nosuch" not found' in unknown.stderr
    other = VolumePlugin(engine.plugins, "other", engine.root)
    other.interface = "LogDriver"
    with other:
        unfit = cli("volume", "create", "-d", "other", "v1", check=False)
    words = 'legacy plugin: Plugin does not implement the requested driver: plugin="other", requested implementation='
    assert f'create v1: error looking up volume plugin other: {words}"VolumeDriver"' in unfit.stderr
    assert cli("volume", "ls", "-q").stdout == ""


def test_prune_and_snapshots_keep_away_from_plugins(engine: Engine, plugin: VolumePlugin) -> None:
    engine.docker("volume", "create", "-d", "sample", "data")
    engine.docker("volume", "prune", "-af")
    assert "data" in plugin.volumes
    assert "data" not in engine.docker("system", "df", "-v").stdout
    for words in ("snapshot data", "export data", "update --size 1g data", "clone data d2", "rename data d2"):
        refused = engine.boxship("volume", *words.split(), check=False)
        assert "it belongs to the driver sample" in refused.stderr
    engine.docker("volume", "create", "source")
    assert engine.boxship("volume", "clone", "source", "data", check=False).returncode == 1
    assert engine.boxship("volume", "import", "data", "/dev/null", check=False).returncode == 1
    engine.docker("volume", "rm", "source")
    assert (list(plugin.volumes), "VolumeDriver.Remove" in plugin.names()) == (["data"], False)
    assert engine.boxship("system", "fsck").stdout == "nothing is wrong\n"


@pytest.mark.row("VOL-14")
def test_mounts_are_right_again_after_the_daemon_was_killed(fresh_engine: Engine, tmp_path: Path) -> None:
    engine = fresh_engine
    with VolumePlugin(engine.plugins, "sample", tmp_path) as started:
        plugin = started
        assert isinstance(plugin, VolumePlugin)
        run = ("run", "-d", "--volume-driver", "sample", "-v", "data:/d")
        stays = engine.docker(*run, "busybox", "sleep", "999").stdout.strip()
        ends = engine.docker(*run, "busybox", "sleep", "999").stdout.strip()
        pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", ends).stdout)
        created = engine.docker("create", *run[2:], "busybox", "sleep", "999").stdout.strip()
        plugin.held["VolumeDriver.Mount"] = threading.Event()
        plugin.calls.clear()
        starting = subprocess.Popen(
            [*engine.namespace.prefix(), "docker", "start", created],
            env=engine.client_environment(),
            stderr=subprocess.DEVNULL,
        )
        plugin.wait_for("VolumeDriver.Mount")
        engine.kill()
        starting.wait(30)
        plugin.held.pop("VolumeDriver.Mount").set()
        subprocess.run(["kill", "-9", str(pid)], check=True)
        until(lambda: created in plugin.mounts["data"])
        engine.start()
        until(lambda: plugin.mounts["data"] == {stays}, 30)
        engine.docker("exec", stays, "sh", "-c", "echo on > /d/f")
        assert (tmp_path / "data/f").read_text() == "on\n"
        engine.docker("rm", "-f", stays, ends, created)
        until(lambda: unmounted(plugin, "data"))
        engine.docker("volume", "rm", "data")
