"""AppArmor profiles of containers, on a stand-in for /sys."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from boxship.base.errors import SystemFailure
from boxship.engine.observation.sysinfo import SysInfo
from boxship.engine.options import apparmor
from boxship.engine.options.apparmor import DefaultProfile
from boxship.spec.docker.container import HostConfig

WITHOUT = SysInfo()
WITH = msgspec.structs.replace(WITHOUT, apparmor=True)


@pytest.mark.row("ISO-07")
@pytest.mark.parametrize(
    ("host", "profile"),
    [
        (HostConfig(), "docker-default"),
        (HostConfig(privileged=True), "unconfined"),
        (HostConfig(security_opt=["apparmor=mine"]), "mine"),
        (HostConfig(security_opt=["apparmor:mine"], privileged=True), "mine"),
        (HostConfig(security_opt=["apparmor=unconfined"]), "unconfined"),
    ],
)
def test_every_container_has_a_profile_where_apparmor_is(host: HostConfig, profile: str) -> None:
    assert apparmor.profile(host, WITH) == profile
    assert apparmor.profile(host, WITHOUT) == ""


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    path = tmp_path / "sys" / "kernel" / "security" / "apparmor" / "profiles"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.row("ISO-07")
def test_the_default_profile_is_loaded_when_the_kernel_does_not_have_it(tmp_path: Path, profiles: Path) -> None:
    profiles.write_text("docker-default-other (enforce)\n/usr/bin/man (enforce)\n")
    loaded: list[str] = []
    default = DefaultProfile(root=str(tmp_path), load=loaded.append)
    default.ensure()
    assert len(loaded) == 1
    assert "profile docker-default flags=(attach_disconnected,mediate_deleted) {" in loaded[0]
    assert "deny mount," in loaded[0]
    profiles.write_text("docker-default (enforce)\n")
    default.ensure()
    assert len(loaded) == 1


@pytest.mark.row("ISO-07")
def test_a_profile_that_cannot_be_loaded_fails_the_start_in_dockers_words(tmp_path: Path, profiles: Path) -> None:
    profiles.touch()

    def refuse(text: str) -> None:
        raise SystemFailure("running `apparmor_parser` failed with output: syntax error")

    with pytest.raises(SystemFailure) as failed:
        DefaultProfile(root=str(tmp_path), load=refuse).ensure()
    assert str(failed.value) == (
        "AppArmor enabled on system but the docker-default profile could not be loaded: "
        "running `apparmor_parser` failed with output: syntax error"
    )


def test_a_list_of_profiles_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="Could not check if docker-default AppArmor profile was loaded"):
        DefaultProfile(root=str(tmp_path)).ensure()


def test_a_host_without_the_parser_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SystemFailure, match="running `apparmor_parser` failed"):
        apparmor.load("")
