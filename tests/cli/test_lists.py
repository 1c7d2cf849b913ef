"""Tables, ``-q``, ``--format`` and ``--filter`` of the listing commands, compared with the docker command line."""

from __future__ import annotations

import shlex
import time

import pytest

NOW = int(time.time())
CONTAINERS = [
    {
        "Id": "ab" * 32,
        "Names": ["/web", "/other/alias"],
        "Image": "busybox",
        "ImageID": "sha256:" + "cd" * 32,
        "Command": "sh -c 'echo a long command \"quoted\"'",
        "Created": NOW - 5 * 86400,
        "Ports": [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "0.0.0.0", "PrivatePort": 90, "PublicPort": 90, "Type": "tcp"},
            {"IP": "0.0.0.0", "PrivatePort": 91, "PublicPort": 91, "Type": "tcp"},
            {"PrivatePort": 443, "Type": "udp"},
        ],
        "Labels": {"b": "2", "a": "1"},
        "State": "running",
        "Status": "Up 5 days",
        "SizeRw": 1234567,
        "SizeRootFs": 223456789,
        "NetworkSettings": {"Networks": {"bridge": {}}},
        "Mounts": [{"Type": "volume", "Name": "a-volume-with-a-long-name", "Driver": "local", "Source": "/x"}],
    },
    {
        "Id": "ef" * 32,
        "Names": ["/done"],
        "Image": "sha256:" + "cd" * 32,
        "ImageID": "sha256:" + "cd" * 32,
        "Command": "",
        "Created": NOW - 4400,  # no age here comes to its next word while the tests run
        "Ports": [],
        "Labels": None,
        "State": "exited",
        "Status": "Exited (0) 3 seconds ago",
        "NetworkSettings": {"Networks": {}},
        "Mounts": [],
    },
]
IMAGES = [
    {
        "Id": "sha256:" + "cd" * 32,
        "RepoTags": ["host:5000/a/b:1", "host:5000/a/b:latest"],
        "RepoDigests": ["host:5000/a/b@sha256:" + "12" * 32],
        "Created": NOW - 40 * 86400,
        "Size": 1984172,
        "SharedSize": -1,
        "Containers": -1,
    },
    {
        "Id": "sha256:" + "98" * 32,
        "RepoTags": [],
        "RepoDigests": [],
        "Created": NOW - 3600 * 30,
        "Size": 223456789,
        "SharedSize": -1,
        "Containers": -1,
    },
]
NETWORKS = [
    {
        "Id": "ab" * 32,
        "Name": "bridge",
        "Driver": "bridge",
        "Scope": "local",
        "Created": "2026-01-02T03:04:05.6Z",
        "EnableIPv4": True,
    },
    {
        "Id": "cd" * 32,
        "Name": "a",
        "Driver": "null",
        "Scope": "local",
        "Labels": {"x": "y"},
        "Created": "2026-01-02T03:04:05Z",
    },
]
VOLUMES = [
    {"Name": "data", "Driver": "local", "Scope": "local", "Mountpoint": "/m", "Labels": {"x": "y"}},
    {"Name": "a" * 64, "Driver": "local", "Scope": "local", "Mountpoint": "/n", "Labels": None},
]
HISTORY = [
    {"Id": "sha256:" + "cd" * 32, "Created": NOW - 3 * 3600, "CreatedBy": 'CMD ["sh"]' * 9, "Size": 0, "Comment": "c"},
    {"Id": "<missing>", "Created": NOW - 7200, "CreatedBy": "ADD x", "Size": 1984172, "Comment": ""},
]

COMMAND_LINES = r"""
ps
ps -a
ps -s
ps --no-trunc
ps -q
ps -q --no-trunc
ps -a --format json
ps --format "{{.ID}}: {{.Command}} {{.Label \"a\"}} {{.Names}}"
ps --format "table {{.Names}}\t{{.Status}}\t{{.Label \"a.b\"}}"
ps --format "{{.Ports}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.Labels}}|{{.CreatedAt}}|{{.RunningFor}}"
ps --format raw
ps -q --format "{{.ID}}"
ps --format "{{.Nope}}"
ps --format "{{.ID"
ps -n 3
ps -l
ps -f status=exited -f label=a=b -f label=c
container ls
container list
container ps
images
image ls
image list
images -a --digests
images -q
images --no-trunc
images --format "{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedSince}} {{.Size}}"
images --format json
images busybox
images -f dangling=true
network ls
network list -q
network ls --no-trunc
network ls --format json
volume ls
volume list -q
volume ls --format "{{.Name}} {{.Mountpoint}} {{.Labels}}"
history busybox
history -q busybox
history --no-trunc busybox
history -H=false busybox
history --format "{{.ID}} {{.CreatedBy}} {{.Comment}}" busybox
""".strip().splitlines()


@pytest.mark.row("CLI-13", "CLI-14", "CLI-15", "CLI-16", "CLI-01", "CLI-10", "RUN-22")
@pytest.mark.parametrize("line", COMMAND_LINES)
def test_lists_are_dockers_byte_for_byte(line, engine, docker, boxship) -> None:
    engine.answers["GET", "/containers/json"] = (200, CONTAINERS)
    engine.answers["GET", "/images/json"] = (200, IMAGES)
    engine.answers["GET", "/networks"] = (200, NETWORKS)
    engine.answers["GET", "/volumes"] = (200, {"Volumes": VOLUMES, "Warnings": None})
    engine.answers["GET", "/images/busybox/history"] = (200, HISTORY)
    words = shlex.split(line)
    theirs = docker(*words)
    their_query = engine.requests[-1].query if engine.requests else None
    ours = boxship(*words)
    assert ours == theirs
    if ours[0] == 0:
        assert engine.requests[-1].query == their_query
