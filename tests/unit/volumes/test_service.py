"""Volumes: names, users, filters, prune, and what a start repairs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from boxship.base.errors import Conflict, InvalidInput, NotFound
from boxship.spec.docker.volume import VolumeCreate
from boxship.store import Store
from boxship.volumes import VolumeService


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "boxship.db"))
    yield store
    store.close()


@pytest.fixture
def volumes(store, tmp_path):
    return VolumeService(store, str(tmp_path / "volumes"), now_ns=lambda: 1_700_000_000_500_000_000)


def create(volumes, name="", **more):
    return asyncio.run(volumes.create(VolumeCreate(name=name, **more)))


@pytest.mark.row("VOL-01")
def test_create_makes_the_directory_and_repeating_it_changes_nothing(volumes, tmp_path):
    volume = create(volumes, "data", labels={"a": "b"})
    assert (volume.name, volume.driver, volume.scope) == ("data", "local", "local")
    assert volume.created_at == "2023-11-14T22:13:20Z"
    assert volume.mountpoint == str(tmp_path / "volumes/data/_data")
    Path(volume.mountpoint, "file").write_text("kept")
    assert create(volumes, "data", labels={"other": ""}).labels == {"a": "b"}
    assert Path(volume.mountpoint, "file").read_text() == "kept"
    assert Path(volume.mountpoint).stat().st_mode & 0o777 == 0o755


@pytest.mark.row("VOL-01")
def test_an_anonymous_volume_has_64_digits_and_a_label(volumes):
    volume = create(volumes)
    assert len(volume.name) == 64
    assert volume.labels == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        (VolumeCreate(name="x"), InvalidInput, "create x: volume name is too short, names should be at least two alph"),
        (
            VolumeCreate(name="a/b"),
            InvalidInput,
            'create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]"',
        ),
        (VolumeCreate(name="../up"), InvalidInput, 'create ../up: "../up" includes invalid'),
        (VolumeCreate(name="ok\n"), InvalidInput, "includes invalid characters"),
        (VolumeCreate(name="yy", driver="foo"), NotFound, 'looking up volume plugin foo: plugin "foo" not found'),
        (VolumeCreate(name="t2", driver_opts={"bogus": "1"}), InvalidInput, 'create t2: invalid option: "bogus"'),
        (
            VolumeCreate(name="t1", driver_opts={"type": "nfs"}),
            InvalidInput,
            'create t1: missing required option: "device"',
        ),
    ],
)
def test_create_refuses_bad_requests(volumes, request_, error, text):
    with pytest.raises(error) as raised:
        asyncio.run(volumes.create(request_))
    assert text in str(raised.value)
    assert asyncio.run(volumes.list({})) == []


@pytest.mark.row("VOL-02")
@pytest.mark.row("VOL-12")
def test_a_volume_in_use_stays_until_its_last_user_lets_go(volumes):
    async def scenario():
        volume = await volumes.create(VolumeCreate(name="voltest"))
        await volumes.use("voltest", "c1")
        await volumes.use("voltest", "c1")
        await volumes.use("voltest", "c2")
        with pytest.raises(Conflict) as raised:
            await volumes.remove("voltest", force=True)
        assert str(raised.value) == "remove voltest: volume is in use - [c1, c2]"
        await volumes.unuse("voltest", "c1")
        await volumes.unuse("voltest", "c2")
        await volumes.unuse("nothing", "c2")
        await volumes.remove("voltest", force=False)
        assert not Path(volume.mountpoint).parent.exists()
        with pytest.raises(NotFound, match="get voltest: no such volume"):
            await volumes.inspect("voltest")
        with pytest.raises(NotFound, match="get voltest: no such volume"):
            await volumes.remove("voltest", force=False)
        await volumes.remove("voltest", force=True)
        with pytest.raises(NotFound):
            await volumes.use("voltest", "c1")

    asyncio.run(scenario())


@pytest.mark.row("VOL-02")
def test_list_filters(volumes):
    async def names(**filters):
        return [volume.name for volume in await volumes.list(filters)]

    async def scenario():
        await volumes.create(VolumeCreate(name="alpha", labels={"env": "prod"}))
        await volumes.create(VolumeCreate(name="beta"))
        await volumes.use("beta", "c1")
        assert await names() == ["alpha", "beta"]
        assert await names(dangling=["true"]) == ["alpha"]
        assert await names(dangling=["0"]) == ["beta"]
        assert await names(name=["lph"]) == ["alpha"]
        assert await names(name=["^b"]) == ["beta"]
        assert await names(label=["env=prod"]) == ["alpha"]
        assert await names(label=["env=dev"]) == []
        assert await names(driver=["other"]) == []
        with pytest.raises(InvalidInput, match=r"invalid filter 'dangling=\[zz\]'"):
            await names(dangling=["zz"])
        with pytest.raises(InvalidInput, match="invalid filter 'foo'"):
            await names(foo=["1"])

    asyncio.run(scenario())


@pytest.mark.row("VOL-12")
def test_prune_takes_unused_anonymous_volumes_and_named_ones_on_demand(volumes):
    async def scenario():
        anonymous = await volumes.create(VolumeCreate())
        used = await volumes.create(VolumeCreate())
        await volumes.create(VolumeCreate(name="named"))
        await volumes.use(used.name, "c1")
        Path(anonymous.mountpoint, "file").write_bytes(bytes(1000))
        assert await volumes.prune({}) == {"VolumesDeleted": [anonymous.name], "SpaceReclaimed": 1000}
        assert await volumes.prune({"all": ["true"], "label!": ["x"]}) == {
            "VolumesDeleted": ["named"],
            "SpaceReclaimed": 0,
        }
        assert [volume.name for volume in await volumes.list({})] == [used.name]
        (usage,) = await volumes.usage()
        assert usage.usage_data == {"Size": 0, "RefCount": 1}

    asyncio.run(scenario())


def test_a_start_finishes_what_was_cut_off(volumes, store, tmp_path, monkeypatch):
    async def scenario():
        removed = await volumes.create(VolumeCreate(name="removed"))
        made = await volumes.create(VolumeCreate(name="made"))
        await volumes.use("made", "dead")
        await volumes.use("made", "alive")

        def stop(*_):
            raise RuntimeError("killed here")

        with monkeypatch.context() as patch:
            patch.setattr(volumes, "_set_aside", stop)
            with pytest.raises(RuntimeError):
                await asyncio.wait_for(volumes.remove("removed", force=False), 10)
        os.rmdir(made.mountpoint)
        (tmp_path / "volumes" / ".removed-abc").mkdir()
        (tmp_path / "volumes" / "strange").mkdir()
        assert [volume.name for volume in await volumes.list({})] == ["made"]

        again = VolumeService(store, str(tmp_path / "volumes"))
        await again.release_unknown({"alive": ["made"], "other": []})
        assert sorted(os.listdir(tmp_path / "volumes")) == ["made", "strange"]
        assert Path(made.mountpoint).is_dir()
        assert not Path(removed.mountpoint).exists()
        await again.create(VolumeCreate(name="removed"))
        with pytest.raises(Conflict, match=r"\[alive\]"):
            await again.remove("made", force=False)

    asyncio.run(scenario())


def test_every_volume_directory_has_an_owner_row(volumes, store, tmp_path):
    create(volumes, "data")
    with store.read() as tx:
        owner = tx.owner(str(tmp_path / "volumes/data"))
    assert owner is not None
    assert (owner.kind, owner.id) == ("volume", "data")
