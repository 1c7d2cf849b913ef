"""Any change of a relevant input changes the key, and no other change does."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from boxship.build.caching import adoption, keys
from boxship.build.files import Archive
from boxship.build.graph import AnyOperation, Copy, MakeDirectory, Mount, Run, WriteFile
from boxship.build.settings import surroundings
from boxship.build.steps.copying import Selection
from boxship.spec.docker.build import BuildOptions
from boxship.spec.docker.container import Ulimit

words = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=6)
many = st.lists(words, max_size=3).map(tuple)
mounts = st.builds(
    Mount,
    type=st.sampled_from(("bind", "cache", "tmpfs", "secret", "ssh")),
    target=words,
    source=words,
    read_only=st.booleans(),
    id=words,
    sharing=st.sampled_from(("shared", "private", "locked")),
    required=st.booleans(),
    env=words,
    mode=st.none() | st.integers(0, 0o7777),
    uid=st.integers(0, 9),
    gid=st.integers(0, 9),
    size=st.integers(0, 9),
)
runs = st.builds(
    Run,
    args=many,
    env=many,
    cwd=words,
    user=words,
    mounts=st.lists(mounts, max_size=2).map(tuple),
    network=st.sampled_from(("default", "none", "host")),
    security=st.sampled_from(("sandbox", "insecure")),
    devices=many,
)
copies = st.builds(
    Copy,
    sources=many,
    target=words,
    chown=words,
    chmod=words,
    unpack=st.booleans(),
    link=st.booleans(),
    parents=st.booleans(),
    exclude=many,
    may_be_empty=st.booleans(),
)
writes = st.builds(WriteFile, path=words, data=st.binary(max_size=4), chown=words, chmod=words)
directories = st.builds(MakeDirectory, path=words, owner=words)
operations = st.one_of(runs, copies, writes, directories)


@given(operations, operations, words, words, words, words)
def test_two_keys_are_equal_only_when_all_their_inputs_are(
    first: AnyOperation, second: AnyOperation, below: str, other_below: str, platform: str, other_platform: str
) -> None:
    one = keys.key(first, below, platform)
    other = keys.key(second, other_below, other_platform)

    same = (first, below, platform) == (second, other_below, other_platform)
    assert (one.digest == other.digest) == same
    assert keys.key(first, below, platform).digest == one.digest


@given(operations, st.data())
def test_each_field_of_an_operation_counts(operation: AnyOperation, data: st.DataObject) -> None:
    other = data.draw({Run: runs, Copy: copies, WriteFile: writes, MakeDirectory: directories}[type(operation)])
    name = data.draw(st.sampled_from([each for each in operation.__struct_fields__ if each != "uncounted_env"]))
    changed = msgspec.structs.replace(operation, **{name: getattr(other, name)})
    assume(changed != operation)

    assert keys.key(changed, "", "").digest != keys.key(operation, "", "").digest


@given(runs, words, words)
def test_values_of_variables_that_do_not_count_change_nothing(run: Run, before: str, after: str) -> None:
    def with_proxy(value: str) -> Run:
        return msgspec.structs.replace(run, env=(*run.env, f"PROXY={value}"), uncounted_env=("PROXY",))

    assert keys.key(with_proxy(before), "", "").digest == keys.key(with_proxy(after), "", "").digest


@given(st.dictionaries(words, words, max_size=3), st.dictionaries(words, words, max_size=3))
def test_what_else_is_read_counts(first: dict[str, str], second: dict[str, str]) -> None:
    run = Run(args=("make",))

    same = keys.key(run, "", "", contents=first).digest == keys.key(run, "", "", contents=second).digest
    assert same == (first == second)


SEEN: list[dict[str, Any]] = [
    {"network_mode": "host"},
    {"extra_hosts": ("db:10.0.0.1",)},
    {"ulimits": (Ulimit(name="nofile", soft=1, hard=1),)},
    {"build_args": {"SOURCE_DATE_EPOCH": "1"}},
]


@pytest.mark.parametrize("options", SEEN)
def test_what_a_program_sees_of_its_build_counts(options: dict[str, Any]) -> None:
    run = Run(args=("make",))

    assert surroundings(BuildOptions(**options), run) != surroundings(BuildOptions(), run) == {}


def test_limits_secrets_and_names_of_the_build_do_not_count() -> None:
    options = BuildOptions(
        memory=1, cpu_shares=2, tags=("a",), secrets={"s": b"x"}, ssh={"default": "/s"}, no_cache=True
    )

    assert surroundings(options, Run(args=("make",))) == {}


def test_the_time_that_no_file_is_after_counts_for_copies_too() -> None:
    copy = Copy(sources=("/a",), target="/")
    with_time = BuildOptions(build_args={"SOURCE_DATE_EPOCH": "1"})

    assert surroundings(with_time, copy) and not surroundings(BuildOptions(extra_hosts=("a:1",)), copy)


# files

names = st.sampled_from(("a", "b", "d/a", "d/b", "d/e/c", "é"))
attributes = st.dictionaries(st.sampled_from(("user.a", "user.b")), st.binary(max_size=3), max_size=2)
Described = tuple[str, bytes, int, dict[str, bytes], int]
files = st.tuples(
    st.sampled_from(("file", "link", "fifo")),
    st.binary(max_size=3),
    st.integers(0, 0o777),
    attributes,
    st.integers(0, 9),
)
trees = st.dictionaries(names, files, min_size=1, max_size=4)


def _archive(tree: dict[str, Described], directory: Path) -> Archive:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, (kind, data, mode, xattrs, mtime) in tree.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.mtime = mode, mtime
            entry.type = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE}[kind]
            entry.linkname = data.hex() or "x" if kind == "link" else ""
            entry.size = len(data) if kind == "file" else 0
            entry.pax_headers = {f"SCHILY.xattr.{key}": value.hex() for key, value in xattrs.items()}
            tar.addfile(entry, io.BytesIO(data))
    buffer.seek(0)
    archive = Archive(str(directory))
    archive.fill(buffer)
    return archive


def _digest(tree: dict[str, Described], directory: Path, copy: Copy, *, local: bool = True) -> str:
    archive = _archive(tree, directory)
    try:
        return Selection(archive, copy, verb="COPY", local=local).digest()[0]
    finally:
        archive.close()


def _counted(tree: dict[str, Described]) -> dict[str, Any]:
    """Return a tree without what does not count: times, and the content of what has none."""
    return {path: (*each[:1], b"" if each[0] == "fifo" else each[1] or b"", *each[2:4]) for path, each in tree.items()}


ALL = Copy(sources=("/",), target="/to/")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(trees, trees)
def test_trees_have_one_digest_only_when_all_that_counts_is_equal(
    tmp_path: Path, first: dict[str, Described], second: dict[str, Described]
) -> None:
    same = _digest(first, tmp_path, ALL) == _digest(second, tmp_path, ALL)

    assert same == (_counted(first) == _counted(second))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(trees, names, files)
def test_one_file_more_or_other_changes_the_digest_and_files_beside_do_not(
    tmp_path: Path, tree: dict[str, Described], name: str, file: Described
) -> None:
    changed = {**tree, name: file}
    assume(_counted(changed) != _counted(tree))
    beside = Copy(sources=("/kept",), target="/to")
    kept: dict[str, Described] = {"kept": ("file", b"1", 0o644, {}, 1)}

    assert _digest(changed, tmp_path, ALL) != _digest(tree, tmp_path, ALL)
    assert _digest({**changed, **kept}, tmp_path, beside) == _digest({**tree, **kept}, tmp_path, beside)


def _one(directory: Path, copy: Copy, *, path: str = "f", mtime: int = 1) -> str:
    return _digest({path: ("file", b"1", 0o644, {}, mtime)}, directory, copy)


def test_one_attribute_is_never_taken_for_two(tmp_path: Path) -> None:
    archive = _archive({"f": ("file", b"", 0o644, {}, 1)}, tmp_path)
    digests = set()
    for xattrs in ({"user.a": b"1\0user.b=2"}, {"user.a": b"1", "user.b": b"2"}, {"user.a": b"1", "user.b": b"2\0"}):
        archive.node("f").xattrs = xattrs
        digests.add(Selection(archive, ALL, verb="COPY", local=True).digest()[0])
    archive.close()

    assert len(digests) == 3


def test_a_file_that_keeps_its_parents_is_another_when_those_are(tmp_path: Path) -> None:
    copy = Copy(sources=("/*/f",), target="/to/", parents=True)

    assert _one(tmp_path, copy, path="a/f") != _one(tmp_path, copy, path="b/f")


def test_a_time_changes_nothing(tmp_path: Path) -> None:
    assert _one(tmp_path, ALL, mtime=1) == _one(tmp_path, ALL, mtime=2)


# layers of images from elsewhere


@pytest.mark.parametrize(
    "operation",
    [
        Run(args=("make",), mounts=(Mount(type="bind", target="/src", input=1),)),
        Run(args=("make",), network="none"),
        Run(args=("make",), devices=("vendor.com/x=y",)),
        Copy(sources=("/a",), target="/", chmod="600"),
        Copy(sources=("/a",), target="/", link=True),
        WriteFile(path="/a", data=b"text"),
    ],
)
def test_words_of_history_that_leave_something_out_serve_nobody(operation: AnyOperation) -> None:
    assert not adoption.tells_all(operation)


def test_words_of_history_that_say_all_serve() -> None:
    assert adoption.tells_all(Run(args=("make",)))
    assert adoption.tells_all(Copy(sources=("/a",), target="/", chown="1:1"))
    assert adoption.tells_all(MakeDirectory(path="/w"))
