"""Rows LOG, MON and IMG of the feature table with both command lines."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.terminal import Terminal

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def no_images_left(engine: Engine) -> Iterator[None]:
    """Keep only the module's own image."""
    yield
    for row in engine.api("GET", "/containers/json?all=1")[1]:
        engine.api("DELETE", f"/containers/{row['Id']}?force=1&v=1")
    engine.docker("tag", "busybox", "busybox")
    for image in engine.api("GET", "/images/json")[1]:
        for tag in image["RepoTags"] or [image["Id"]]:
            if tag not in ("busybox:latest", "<none>:<none>"):
                engine.api("DELETE", f"/images/{tag}?force=1")


@pytest.mark.row("LOG-01", "LOG-02", "LOG-03")
def test_logs_keep_streams_times_and_unfinished_lines(cli: CLI, engine: Engine) -> None:
    script = "echo out; echo err >&2; printf 'no end'"
    id = cli("run", "-d", "--name", "talk", "busybox", "sh", "-c", script).stdout.strip()
    cli("wait", "talk")
    result = cli("logs", id[:12])
    assert (result.stdout, result.stderr) == ("out\nno end", "err\n")
    for line in cli("logs", "-t", "talk").stdout.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ", line)
    assert cli("logs", "-n", "0", "talk").stdout == ""
    assert (
        cli("logs", "--since", "10m", "talk").stdout
        == cli("logs", "--since", "2002-10-02", "talk").stdout
        == "out\nno end"
    )
    assert cli("logs", "--until", "2002-10-02T10:00:00Z", "talk").stdout == ""
    assert cli("logs", "--details", "talk").stdout == " out\n no end"
    wrong = cli("logs", "--since", "bogus", "talk", check=False)
    assert wrong.stderr == 'invalid value for "since": failed to parse value as time or duration: "bogus"\n'
    path = Path(cli("inspect", "-f", "{{.LogPath}}", "talk").stdout.strip())
    assert path == engine.data_root / "containers" / id / f"{id}-json.log"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((record["stream"], record["log"]) for record in records) == [
        ("stderr", "err\n"),
        ("stdout", "no end"),
        ("stdout", "out\n"),
    ]


@pytest.mark.row("LOG-04")
@pytest.mark.parametrize("compress", ["false", "true"])
def test_logs_are_rotated_and_read_across_files(cli: CLI, compress: str) -> None:
    options = ("--log-opt", "max-size=10k", "--log-opt", "max-file=3", "--log-opt", f"compress={compress}")
    # The pauses are for the compression: while it works on a file, the newest one may grow.
    script = "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); [ $((i%100)) = 0 ] && usleep 100000; done; true"
    cli("run", "--name", "chatty", *options, "busybox", "sh", "-c", script)
    lines = cli("logs", "chatty").stdout.splitlines()
    last = int(lines[-1].split()[1])
    assert last == 999
    assert lines == [f"line {number}" for number in range(1000 - len(lines), 1000)]
    assert 150 < len(lines) < 1000
    path = Path(cli("inspect", "-f", "{{.LogPath}}", "chatty").stdout.strip())
    files = sorted(file.name for file in path.parent.glob("*-json.log*"))
    assert len(files) == 3
    assert files[1].endswith(".gz") == (compress == "true")


@pytest.mark.row("LOG-04", "LOG-06")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--log-opt", "max-size=bogus"), "failed to initialize logging driver: invalid size: 'bogus'"),
        (("--log-opt", "x=1"), "unknown log opt 'x' for json-file log driver"),
        (("--log-driver", "x"), 'error looking up logging plugin x: plugin "x" not found'),
    ],
)
def test_wrong_log_options_are_named(cli: CLI, options: tuple[str, ...], text: str) -> None:
    result = cli("run", *options, "busybox", "true", check=False)
    assert (result.returncode, text in result.stderr) == (125, True), result.stderr


@pytest.mark.row("LOG-09", "LOG-08")
def test_the_driver_none_keeps_nothing(cli: CLI) -> None:
    assert cli("run", "--name", "quiet", "--log-driver=none", "busybox", "echo", "hi").stdout == "hi\n"
    result = cli("logs", "quiet", check=False)
    assert result.returncode == 1
    assert result.stderr == "Error response from daemon: configured logging driver does not support reading\n"


@pytest.mark.row("MON-05")
def test_stats_has_its_columns_and_options(cli: CLI) -> None:
    id = cli("run", "-d", "--name", "one", "busybox", "sleep", "100").stdout.strip()
    cli("create", "--name", "idle", "busybox")
    header, row = cli("stats", "--no-stream").stdout.splitlines()
    names = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]
    assert re.split(r"\s{3,}", header) == names
    assert re.match(
        rf"{id[:12]}\s+one\s+[\d.]+%\s+[\d.]+[KM]iB / [\d.]+[GM]iB\s+[\d.]+%\s+\S+ / \S+\s+\S+ / \S+\s+1$", row
    )
    assert cli("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}").stdout == f"{id}\n"
    everything = cli("stats", "--no-stream", "--all", "--format", "{{.Name}} {{.PIDs}}").stdout.splitlines()
    assert sorted(everything) == ["idle 0", "one 1"]
    assert json.loads(cli("stats", "--no-stream", "--format", "json", "one").stdout)["Name"] == "one"
    missing = cli("stats", "--no-stream", "nosuch", check=False)
    assert (missing.returncode, "No such container: nosuch" in missing.stderr) == (1, True)


@pytest.mark.row("MON-05")
def test_stats_on_a_terminal_go_on_until_interrupted(engine: Engine, terminal: Callable[..., Terminal]) -> None:
    engine.docker("run", "-d", "--name", "watched", "busybox", "sleep", "100")
    live = terminal(engine, "stats", columns=140)
    for _ in range(2):
        live.expect(r"watched +[\d.]+% ")
    live.send("\x03")
    live.wait()


@pytest.mark.row("MON-06", "API-11")
def test_the_stats_call_has_dockers_document(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "one", "busybox", "sleep", "100")
    status, sample = engine.api("GET", "/containers/one/stats?stream=false")
    assert status == 200
    assert {
        "cpu_stats",
        "precpu_stats",
        "memory_stats",
        "networks",
        "blkio_stats",
        "pids_stats",
        "read",
        "id",
    } <= sample.keys()
    assert sample["networks"]["eth0"].keys() >= {"rx_bytes", "tx_bytes"}
    assert sample["cpu_stats"]["cpu_usage"]["total_usage"] >= sample["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert engine.api("GET", "/containers/nosuch/stats") == (404, {"message": "No such container: nosuch"})


@pytest.mark.row("MON-07", "API-04")
def test_events_are_filtered_and_formatted(cli: CLI) -> None:
    begun = int(time.time())
    id = (
        cli("run", "--name", f"short{begun}", "-l", "kind=test", "busybox", "true")
        and cli("ps", "-lq", "--no-trunc").stdout.strip()
    )
    cli("rm", id)
    span = ("events", "--since", str(begun), "--until", str(int(time.time()) + 1), "-f", f"container={id}")
    [die] = cli(*span, "-f", "event=die").stdout.splitlines()
    pattern = (
        rf"\d{{4}}-\S+ container die {id} \(execDuration=0, exitCode=0, image=busybox, kind=test, name=short{begun}\)"
    )
    assert re.fullmatch(pattern, die)
    rows = [json.loads(line) for line in cli(*span, "--format", "json").stdout.splitlines()]
    assert [row["Action"] for row in rows] == ["create", "attach", "start", "die", "destroy"]
    assert cli(*span, "-f", "type=image").stdout == ""
    assert cli(*span, "-f", "label=kind=test", "-f", "event=start", "--format", "{{.Actor.ID}}").stdout == f"{id}\n"
    bad = cli("events", "--since", "1", "--until", "2", "-f", "bogus=1", check=False)
    assert (bad.returncode, bad.stderr) == (1, "Error response from daemon: invalid filter 'bogus'\n")
    when = cli("events", "--since", "bogus", "--until", "2", check=False)
    assert 'failed to parse value as time or duration: "bogus"' in when.stderr


@pytest.mark.row("IMG-06", "IMG-10", "CLI-13", "CLI-14")
def test_images_lists_what_tag_names(cli: CLI) -> None:
    id = cli("images", "-q").stdout.strip()
    cli("tag", id, "team/app:1.0")
    header, *rows = cli("images").stdout.splitlines()
    assert re.split(r"\s{3,}", header) == ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    # The docker CLI shows the names of one image in any order.
    assert sorted(re.split(r"\s{3,}", row)[:3] for row in rows) == [["busybox", "latest", id], ["team/app", "1.0", id]]
    assert re.search(r"\d(\.\d+)?MB$", rows[0])
    assert cli("image", "ls", "team/app", "--format", "{{.Tag}}").stdout == "1.0\n"
    assert cli("images", "team/*", "-q").stdout == f"{id}\n"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", cli("images", "-q", "--no-trunc", "busybox").stdout)
    assert "DIGEST" in cli("images", "--digests").stdout
    for target, text in (
        (
            "Bad",
            'Error parsing reference: "Bad" is not a valid repository/tag: invalid reference format: repository name (library/Bad) must be lowercase',
        ),
        ("a:b:c", '"a:b:c" is not a valid repository/tag: invalid reference format'),
    ):
        refused = cli("tag", "busybox", target, check=False)
        assert (refused.returncode, text in refused.stderr) == (1, True)
    assert "No such image: nosuch:latest" in cli("tag", "nosuch", "x", check=False).stderr


@pytest.mark.row("IMG-09", "CLI-12")
def test_rmi_refuses_used_images_and_untags_others(cli: CLI) -> None:
    image = cli("images", "-q").stdout.strip()
    container = cli("run", "-d", "busybox", "sleep", "100").stdout[:12]
    used = cli("rmi", "busybox", check=False)
    conflict = f'conflict: unable to remove repository reference "busybox" (must force) - container {container} is using its referenced image {image}'
    assert (used.returncode, conflict in used.stderr) == (1, True)
    by_id = cli("rmi", "-f", image, check=False)
    assert (by_id.returncode, f"image is being used by running container {container}" in by_id.stderr) == (1, True)
    cli("tag", "busybox", "spare")
    result = cli("rmi", "spare", "nosuch", check=False)
    assert (result.returncode, result.stdout) == (1, "Untagged: spare:latest\n")
    assert "No such image: nosuch:latest" in result.stderr


@pytest.mark.row("IMG-11", "IMG-13", "IMG-15")
def test_import_makes_a_one_layer_image_with_its_changes(cli: CLI, engine: Engine) -> None:
    cli("create", "--name", "source", "busybox")
    tar = engine.root / "root.tar"
    cli("export", "source", "-o", str(tar))
    changes = ("-c", "ENV A=b", "-c", "EXPOSE 80", "-c", 'CMD ["sh"]', "-m", "hello")
    id = cli("import", *changes, str(tar), "imp:1").stdout.strip()
    [document] = json.loads(cli("inspect", "imp:1").stdout)
    assert document["Id"] == id
    assert document["RepoTags"] == ["imp:1"]
    assert document["Config"]["Env"] == ["A=b"]
    assert document["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert document["Comment"] == "hello"
    assert len(document["RootFS"]["Layers"]) == 1
    assert {"Architecture", "Os", "Size", "GraphDriver", "Created", "RepoDigests"} <= document.keys()
    header, row = cli("history", "imp:1").stdout.splitlines()
    assert re.split(r"\s{3,}", header) == ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
    assert row.endswith("hello")
    assert cli("history", "-q", "--no-trunc", "imp:1").stdout == f"{id}\n"
    assert cli("run", "--rm", "imp:1", "sh", "-c", "echo $A").stdout == "b\n"
    bad = cli("import", "-c", "BOGUS x", str(tar), check=False)
    assert (bad.returncode, "bogus is not a valid change command" in bad.stderr) == (1, True)
    with tar.open("rb") as stream:
        assert cli("import", "-", "piped", stdin=stream).stdout.startswith("sha256:")
    tar.unlink()


@pytest.mark.row("IMG-14")
def test_save_and_load_of_several_images(cli: CLI, engine: Engine) -> None:
    cli("tag", "busybox", "one:1")
    cli("tag", "busybox", "two:2")
    path = engine.root / "saved.tar"
    cli("save", "one:1", "two:2", "-o", str(path))
    names = subprocess.run(["tar", "tf", str(path)], capture_output=True, text=True, check=True).stdout.split()
    assert {"manifest.json", "index.json", "oci-layout"} <= set(names)
    cli("rmi", "one:1", "two:2")
    assert sorted(cli("load", "-i", str(path)).stdout.splitlines()) == ["Loaded image: one:1", "Loaded image: two:2"]
    with path.open("rb") as stream:
        assert "Loaded image: one:1" in cli("load", "-q", stdin=stream).stdout
    assert cli("load", "-i", "/etc/passwd", check=False).returncode == 1
    wrong = cli("save", "one:1", "-o", "/nosuch/x", check=False)
    assert wrong.stderr == "failed to save image: invalid output path: stat /nosuch: no such file or directory\n"
    assert "No such image: nosuch" in cli("save", "nosuch", check=False).stderr
    path.unlink()


@pytest.mark.row("IMG-19")
def test_prune_and_df(cli: CLI, engine: Engine) -> None:
    cli("create", "--name", "source", "busybox")
    tar = engine.root / "root.tar"
    cli("export", "source", "-o", str(tar))
    id = cli("import", str(tar)).stdout.strip()
    tar.unlink()
    assert cli("images", "-f", "dangling=true", "--format", "{{.Repository}} {{.Tag}}").stdout == "<none> <none>\n"
    header, images, containers, volumes, cache = cli("system", "df").stdout.splitlines()
    assert re.split(r"\s{3,}", header) == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert re.split(r"\s{3,}", images)[:3] == ["Images", "2", "1"]
    assert re.split(r"\s{3,}", containers)[:3] == ["Containers", "1", "0"]
    assert volumes.startswith("Local Volumes")
    assert cache.startswith("Build Cache")
    assert "Images space usage:" in cli("system", "df", "-v").stdout
    pruned = cli("image", "prune", "-f").stdout
    assert pruned.startswith("Deleted Images:\n")
    assert id in pruned
    assert re.search(r"\nTotal reclaimed space: [\d.]+[kM]?B\n$", pruned)
    cli("tag", "busybox", "unused:1")
    assert "untagged: unused:1" not in cli("image", "prune", "-f").stdout
