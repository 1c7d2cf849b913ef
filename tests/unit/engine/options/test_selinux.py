"""SELinux labels: options, defaults of the host's policy, and labels of what is bound."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.engine import why
from boxship.engine.causes import Ending, Reason
from boxship.engine.model import ContainerSpec, ContainerStatus, ResolvedMount, State
from boxship.engine.options import selinux
from boxship.engine.options.selinux import Labels
from boxship.spec.docker.container import ContainerConfig, HostConfig

PROCESS = "system_u:system_r:container_t"
FILE = "system_u:object_r:container_file_t"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with a policy for containers."""
    contexts = tmp_path / "etc" / "selinux" / "strict" / "contexts"
    contexts.mkdir(parents=True)
    (tmp_path / "etc" / "selinux" / "config").write_text("# policy\nSELINUX=enforcing\nSELINUXTYPE=strict\n")
    (contexts / "lxc_contexts").write_text(f'process = "{PROCESS}:s0"\ncontent = "x:y:z:s0"\nfile = "{FILE}:s0"\n')
    return tmp_path


def drawing(*numbers: int) -> Callable[[int], int]:
    source = itertools.chain(numbers)
    return lambda _limit: next(source)


def host(*labels: str) -> HostConfig:
    return HostConfig(security_opt=[f"label={label}" for label in labels])


@pytest.mark.row("ISO-07")
def test_each_container_has_two_categories_that_no_other_has(root: Path) -> None:
    labels = selinux.choose(HostConfig(), {"s0:c3,c7"}, root=str(root), draw=drawing(7, 3, 5, 5, 9, 2))
    assert labels == Labels(f"{PROCESS}:s0:c2,c9", f"{FILE}:s0:c2,c9")


@pytest.mark.row("ISO-07")
@pytest.mark.parametrize(
    ("options", "process", "file"),
    [
        (["type:mine_t"], "system_u:system_r:mine_t:s0:c1,c2", f"{FILE}:s0:c1,c2"),
        (["filetype:mine_t"], f"{PROCESS}:s0:c1,c2", "system_u:object_r:mine_t:s0:c1,c2"),
        (["level:s0:c100,c200"], f"{PROCESS}:s0:c100,c200", f"{FILE}:s0:c100,c200"),
        (["user:u", "role:r"], "u:r:container_t:s0:c1,c2", "u:object_r:container_file_t:s0:c1,c2"),
        (["disable"], "", ""),
    ],
)
def test_options_replace_parts_of_the_labels(root: Path, options: list[str], process: str, file: str) -> None:
    assert selinux.choose(host(*options), (), root=str(root), draw=drawing(1, 2)) == Labels(process, file)


@pytest.mark.parametrize(
    "config", [HostConfig(privileged=True), HostConfig(pid_mode="host"), HostConfig(ipc_mode="host")]
)
def test_who_shares_with_the_host_is_not_confined(root: Path, config: HostConfig) -> None:
    assert selinux.choose(config, (), root=str(root)) == Labels()


def test_a_policy_without_containers_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="SELinux policy targeted has no labels for containers"):
        selinux.choose(HostConfig(), (), root=str(tmp_path))


@pytest.mark.row("ISO-07")
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("nonsense", "Bad label option \"nonsense\", valid options 'disable' or"),
        ("colour:red", "Bad label option \"colour\", valid options 'disable, user, role, level, type, filetype'"),
    ],
)
def test_an_option_that_means_nothing_is_refused_everywhere(option: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        selinux.check(host(option))
    assert str(refused.value).startswith(words)


@pytest.mark.row("ISO-07")
@pytest.mark.parametrize("option", ["disable", "type:t", "level:s0:c1,c2", "user:u", "role:r", "filetype:t"])
def test_options_are_accepted_everywhere(option: str) -> None:
    selinux.check(host(option))


def test_directories_that_the_host_needs_are_never_relabelled() -> None:
    mount = ResolvedMount(type="bind", source="/usr/../etc", target="/x", mode="Z")
    with pytest.raises(InvalidInput, match=r"SELinux relabeling of /usr/\.\./etc is not allowed"):
        selinux.relabel([mount], f"{FILE}:s0:c1,c2")


@pytest.mark.row("ISO-07")
@pytest.mark.system
@pytest.mark.parametrize(("mode", "level"), [("z", "s0"), ("ro,Z", "s0:c1,c2"), ("ro", None)])
def test_what_is_bound_is_relabelled_for_all_or_for_this_container(
    tmp_path: Path, mode: str, level: str | None
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").touch()
    (tmp_path / "link").symlink_to("/etc/hostname")
    before = os.listxattr("/etc/hostname")
    mount = ResolvedMount(type="bind", source=str(tmp_path), target="/x", mode=mode)
    selinux.relabel([mount], f"{FILE}:s0:c1,c2")
    for path in (tmp_path, tmp_path / "below", tmp_path / "below" / "file"):
        if level is None:
            assert "security.selinux" not in os.listxattr(path)
        else:
            assert os.getxattr(path, "security.selinux") == f"{FILE}:{level}".encode()
    assert os.listxattr("/etc/hostname") == before


@pytest.mark.row("VOL-18")
def test_who_was_denied_a_bind_mount_is_told_of_z() -> None:
    def spec(label: str, *mounts: ResolvedMount) -> ContainerSpec:
        return ContainerSpec(
            id="1" * 64,
            name="box",
            created_ns=0,
            image_id="",
            config=ContainerConfig(),
            host_config=HostConfig(),
            path="true",
            args=[],
            mounts=list(mounts),
            process_label=label,
        )

    plain = ResolvedMount(type="bind", source="/srv/a", target="/a", mode="ro")
    shared = ResolvedMount(type="bind", source="/srv/b", target="/b", mode="ro,z")
    volume = ResolvedMount(type="volume", source="/volumes/c", target="/c", name="c")
    confined = "system_u:system_r:container_t:s0:c1,c2"
    said = selinux.hint(spec(confined, plain, shared, volume))
    assert 'access ("Permission denied") to /srv/a: mount that with :z' in said
    assert selinux.hint(spec(confined, shared, volume)) == ""
    assert selinux.hint(spec("", plain)) == ""
    ended = ContainerStatus(
        state=State.EXITED,
        exit_code=1,
        ending=Ending(reason=Reason.EXIT, time_ns=1, exit_code=1),
    )
    assert "to /srv/a: mount that with :z" in why.text(spec(confined, plain), ended, now_ns=2)
    assert "SELinux" not in why.text(spec("", plain), ended, now_ns=2)
