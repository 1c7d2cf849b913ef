"""Binds, volumes and tmpfs resolve to one mount a target."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from boxship.base.errors import DeadlineExceeded, InvalidInput, SystemFailure
from boxship.engine.model import IdMap, ResolvedMount
from boxship.engine.options import mounts
from boxship.spec.docker.container import HostConfig, Mount


class FakeVolumes:
    async def ensure(
        self,
        name: str,
        *,
        driver: str,
        labels: Mapping[str, str] = {},
        options: Mapping[str, str] = {},
        anonymous: bool = False,
    ) -> str:
        return f"/volumes/{name}/_data"


def resolve(image_volumes: dict[str, object] | None = None, **host: object) -> dict[str, ResolvedMount]:
    found = asyncio.run(mounts.resolve(HostConfig(**host), image_volumes or {}, [], FakeVolumes()))
    return {mount.target: mount for mount in found}


def test_an_absolute_source_is_a_bind_and_a_name_a_volume() -> None:
    found = resolve(binds=["/host//dir/:/a:ro", "data:/b"])
    assert (found["/a"].type, found["/a"].source, found["/a"].read_only) == ("bind", "/host/dir", True)
    assert (found["/b"].type, found["/b"].source) == ("volume", "/volumes/data/_data")


def test_image_volumes_become_anonymous_unless_something_is_mounted_there() -> None:
    found = resolve({"/a": {}, "/b": {}}, binds=["data:/b"])
    assert found["/a"].anonymous
    assert found["/b"].name == "data"


@pytest.mark.row("ISO-20")
def test_a_relative_source_is_refused_with_dockers_advice() -> None:
    with pytest.raises(InvalidInput, match="includes invalid characters for a local volume name"):
        resolve(binds=["relative/path:/a"])


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"binds": ["/a:/b:bogus"]}, "invalid mode: bogus"),
        ({"binds": ["/a:relative"]}, "mount path must be absolute"),
        ({"binds": ["/a:/"]}, "destination can't be '/'"),
        ({"binds": ["/a:/x", "/b:/x"]}, "Duplicate mount point: /x"),
        ({"binds": ["::"]}, "invalid volume specification"),
        ({"mounts": [Mount(type="bind", source="rel", target="/x")]}, "mount path must be absolute"),
        ({"mounts": [Mount(type="bind", target="/x")]}, "field Source must not be empty"),
        ({"mounts": [Mount(type="bogus", target="/x")]}, "mount type unknown: bogus"),
        ({"mounts": [Mount(type="volume", source="v")]}, "field Target must not be empty"),
        ({"mounts": [Mount(type="tmpfs", source="x", target="/x")]}, "field Source must not be specified"),
    ],
)
def test_bad_mounts_are_refused(host: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        resolve(**host)


def test_a_mount_of_type_bind_needs_its_source(tmp_path: object) -> None:
    found = list(resolve(mounts=[Mount(type="bind", source=f"{tmp_path}/missing", target="/x")]).values())
    with pytest.raises(InvalidInput, match="bind source path does not exist"):
        asyncio.run(mounts.check_sources(found))


def test_a_bind_source_that_cannot_be_made_is_an_error_in_dockers_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = list(resolve(binds=[f"{tmp_path}/file/dir:/x"]).values())
    with pytest.raises(
        SystemFailure, match=r"error while creating mount source path '.*/file/dir': mkdir .*: not a directory"
    ):
        asyncio.run(mounts.make_sources(found))


def test_a_look_at_sources_that_nobody_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(mounts, "SOURCE_DEADLINE", 0.05)
    monkeypatch.setattr(mounts.os.path, "exists", lambda path: answered.wait(20))
    found = list(resolve(binds=["/silent:/x"]).values())
    with pytest.raises(DeadlineExceeded, match="mounts need: /silent"):
        asyncio.run(mounts.make_sources(found))
    answered.set()


def test_tmpfs_keeps_its_options() -> None:
    found = resolve(tmpfs={"/run": "size=1m,mode=700"})
    assert found["/run"].options == ["size=1m", "mode=700"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"type": "bind", "source": "/a", "volume_options": {}}, "field VolumeOptions must not be specified"),
        ({"type": "volume", "bind_options": {}}, "field BindOptions must not be specified"),
        ({"type": "tmpfs", "image_options": {}}, "field ImageOptions must not be specified"),
        ({"type": "image", "source": "a", "tmpfs_options": {}}, "field TmpfsOptions must not be specified"),
        ({"type": "image"}, "field Source must not be empty"),
        ({"type": "volume", "read_only": True}, "must not set ReadOnly mode when using anonymous volumes"),
        ({"type": "volume", "volume_options": {"Subpath": "x"}}, "must not set Subpath when using anonymous volumes"),
        ({"type": "tmpfs", "tmpfs_options": {"Options": [["suid"]]}}, 'invalid option: "suid"'),
        ({"type": "tmpfs", "tmpfs_options": {"Options": [["a", "b", "c"]]}}, "invalid option array length"),
    ],
)
def test_options_of_other_types_are_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInput, match=f'invalid mount config for type "{fields["type"]}": .*{text}'):
        resolve(mounts=[Mount(target="/t", **fields)])


def test_a_tmpfs_may_have_programs_and_a_mount_other_owners() -> None:
    found = resolve(
        mounts=[
            Mount(type="tmpfs", target="/t", tmpfs_options={"Options": [["exec"]], "Mode": 0o1700, "SizeBytes": 4096}),
            Mount(type="bind", source="/a", target="/a", bind_options={"IDMap": "uids=1-2-3#9-9-1"}),
        ],
        binds=["/b:/b:ro,idmap", "/c:/c"],
    )
    assert found["/t"].options == ["size=4096", "mode=1700", "exec"]
    assert found["/a"].idmap == IdMap(uids=[(1, 2, 3), (9, 9, 1)])
    assert found["/b"].idmap == IdMap()
    assert found["/c"].idmap is None
