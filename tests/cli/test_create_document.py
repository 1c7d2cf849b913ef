"""The documents that ``run`` and ``create`` send are those of the docker command line, member by member."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

COMMAND_LINES = """
create busybox
create -i busybox cat
create -it --rm --name x -h host --domainname d busybox cmd -a --b
create -a stdin -a stdout busybox
create --entrypoint 'a b' busybox c
create --entrypoint= busybox
create -u 1:2 -w /w --group-add 3 --read-only --privileged --init busybox
create --init=false --stop-timeout 0 --stop-signal HUP busybox
create -e A=1 -e HOME -e NOT_SET --env-file ENVS -l a=b -l c --label-file LABELS busybox
create -p 80:80 -p 127.0.0.1:81:80/udp -P --expose 9 --expose 20-22/udp busybox
create -p 80 -p 81/udp -p 90-92:80-82 -p 100-110:99 -p [::1]:5:6 -p 1.2.3.4::7 -p 8080:80/SCTP busybox
create -p target=80,published=8080,protocol=udp -p target=81 busybox
create -v /a:/b:ro -v vol:/c -v /anon -v ./rel:/d -v rel/path:/e -v /x:ro -v a:b:c:d -v :x busybox
create --mount type=bind,src=/a,dst=/d,readonly --mount type=tmpfs,dst=/e,tmpfs-size=1m,tmpfs-mode=1770 busybox
create --mount type=volume,src=v,dst=/z,volume-opt=a=b,volume-nocopy,volume-label=q,volume-driver=d busybox
create --mount type=bind,src=/a,dst=/b,ro,bind-propagation=rprivate,bind-recursive=readonly busybox
create --mount 'type=bind,"src=/a,b",dst=/c' --mount target=/q --mount type=image,src=i,dst=/i busybox
create --tmpfs /f:size=3 --tmpfs /g --shm-size 64m --volumes-from a:ro --volume-driver d busybox
create -m 100m --memory-reservation 5k --memory-swap -1 --memory-swappiness 50 --cpus 1.5 -c 5 busybox
create --cpu-period 100 --cpu-quota 50 --cpuset-cpus 0-1 --cpuset-mems 0 --pids-limit -1 --kernel-memory 5m busybox
create --blkio-weight 100 --blkio-weight-device /dev/sda:300 --device-read-bps /dev/sda:1mb busybox
create --device-write-iops /dev/sda:5 --oom-kill-disable --oom-score-adj -100 --cgroup-parent /x busybox
create --ulimit nofile=10:20 --ulimit nproc=-1 --ulimit core=0:-1 busybox
create --device /dev/null --device /dev/zero:/dev/z:r --device /dev/c:rw --device vendor.com/gpu=0 busybox
create --gpus all --device-cgroup-rule 'c 1:3 rwm' busybox
create --gpus '"device=0,1",driver=nvidia,"capabilities=utility,compute",options=a=b' busybox
create --cap-add sys_admin --cap-add CAP_NET_RAW --cap-drop all --security-opt no-new-privileges busybox
create --security-opt systempaths=unconfined --security-opt seccomp=SECCOMP busybox
create --network foo --ip 1.2.3.4 --ip6 ::2 --network-alias q --link web:w --link-local-ip 169.254.1.1 busybox
create --network name=foo,alias=a,ip=1.2.3.4,driver-opt=x=y,gw-priority=3 --network bar busybox
create --network host busybox
create --network none --mac-address 92:d0:c6:0a:29:33 busybox
create --network container:foo --pid host --uts host --ipc host --userns host --cgroupns private busybox
create --net foo --net-alias b --dns 1.1.1.1 --dns-search a.b --dns-opt ndots:1 busybox
create --add-host a:1.2.3.4 --add-host b=::1 --add-host c:host-gateway --add-host d:[::1] busybox
create --restart on-failure:3 --log-driver json-file --log-opt x=y --storage-opt size=3 busybox
create --health-cmd 'a b' --health-interval 3s --health-retries 2 --health-timeout 1m30s busybox
create --health-start-period 1.5s --health-start-interval 2s --annotation a=b --sysctl net.b=1 busybox
create --no-healthcheck --isolation x --runtime runc busybox
create --platform linux/amd64 docker.io/library/busybox:1
""".strip().splitlines()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    contents = {
        "ENVS": "A=1\n# comment\n\nHOME\n  B=2 3\nNOT_SET\n",
        "LABELS": "one=1\nbare\n",
        "SECCOMP": '{ "defaultAction" : [1,\n 2] }',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return {name: str(tmp_path / name) for name in contents}


@pytest.mark.row("RUN-14", "RUN-35", "RUN-36", "NET-18", "RUN-38", "RUN-39")
@pytest.mark.parametrize("line", COMMAND_LINES)
def test_create_sends_dockers_document(line, engine, docker, boxship, files) -> None:
    engine.answers["POST", "/containers/create"] = (201, {"Id": "ab" * 32, "Warnings": []})
    words = []
    for word in shlex.split(line):
        for name, path in files.items():
            word = word.replace(name, path)
        words.append(word)

    theirs, their_request = docker(*words), engine.requests[-1]
    ours, our_request = boxship(*words), engine.requests[-1]

    assert ours == theirs
    assert our_request.query == their_request.query
    assert sorted_sets(our_request.body) == sorted_sets(their_request.body)


def sorted_sets(document: object) -> object:
    """Docker takes some lists out of unordered maps."""
    assert isinstance(document, dict)
    document["Env"] = sorted(document["Env"] or [])
    for name in ("Binds", "ExtraHosts"):
        if document["HostConfig"].get(name):
            document["HostConfig"][name].sort()
    return document
