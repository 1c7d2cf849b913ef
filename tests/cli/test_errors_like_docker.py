"""Exit status, stdout and stderr for what the command line itself refuses, compared with the docker command line."""

from __future__ import annotations

import shlex

import pytest

COMMAND_LINES = r"""
-z
--bogus ps
foo
container foo
container --bogus
container -z
help foo
help container foo
-H a -H b ps
-H foo://x ps
-l bogus ps
-c nope ps
-H unix:///nope ps
-H unix:///nope run busybox
-H tcp://127.0.0.1:1 ps
ps x
ps --bogus
ps -n
ps -nx
ps -f foo
rm
stop
stop -t x y
tag a
port a b c
rename a
exec x
run
run --
run --bogus x
run -zq x
run --name
run --rm=maybe busybox
run -m x busybox
run --cpus x busybox
run --cpus 1.0000000001 busybox
run -a foo busybox
run --health-interval 5 busybox
run --health-interval x busybox
run --ulimit foo=1 busybox
run --ulimit nofile=5:1 busybox
run --sysctl a=b busybox
run --add-host foo busybox
run --dns foo busybox
run --link a:b:c busybox
run --blkio-weight -1 busybox
run --blkio-weight 70000 busybox
run --blkio-weight-device foo busybox
run --device-read-bps /dev/sda:x busybox
run --device-cgroup-rule foo busybox
run --gpus foo busybox
run --mount foo busybox
run --mount type=bind,src=/a busybox
run --mount type=bind,src=/a,dst=/b,foo=c busybox
run --mount type=tmpfs,dst=/b,volume-nocopy busybox
run --network name=,alias=b busybox
run --network foo=bar busybox
run -p x busybox
run -p 99999:80 busybox
run -p 1-3:4-9 busybox
run -p 80/foo busybox
run -p 1.2.3:80:80 busybox
run --expose 80:80 busybox
run --expose x busybox
run --device a:b:c:d busybox
run --env-file /nosuch busybox
run --label-file /nosuch busybox
run --pid foo busybox
run --uts foo busybox
run --userns foo busybox
run --cgroupns foo busybox
run --memory-swappiness 200 busybox
run --security-opt foo busybox
run --security-opt seccomp=/nosuch busybox
run --log-driver none --log-opt a=b busybox
run --storage-opt a busybox
run --restart on-failure:x busybox
run --restart :3 busybox
run --rm --restart always busybox
run --mac-address foo busybox
run --no-healthcheck --health-cmd x busybox
run --health-retries -1 busybox
run --network a --network a busybox
run --network host --network foo busybox
run -d -a stdout busybox
run -v "" busybox
run --pull foo busybox
run --cidfile /etc/passwd busybox
run BUSYBOX
run busybox:in:valid true
run -it busybox true
create -p x busybox
pull
pull A:b
pull -a x:y
update x
start -a a b
inspect --type foo web
inspect --type= web
rename "" x
stop -t 1 --time 2 web
tag busybox Foo
import - Foo
network create foo --gateway 1.2.3.4
volume create --name a b
logs --since x web
events --since x
ps --format {{.Foo
""".strip().splitlines()


@pytest.mark.row("CLI-06", "CLI-08", "CLI-09", "CLI-22", "RUN-13")
@pytest.mark.parametrize("line", COMMAND_LINES)
def test_refusals_are_dockers_word_for_word(line, engine, docker, boxship) -> None:
    state = {"Id": "ab" * 32, "Config": {"Tty": False}}
    engine.answers["GET", "/containers/web/json"] = (200, state)
    engine.answers["GET", "/containers/json"] = (200, [])
    words = shlex.split(line)
    assert boxship(*words) == docker(*words)


@pytest.mark.row("CLI-12")
def test_every_target_is_tried_and_the_status_tells_of_failures(engine, docker, boxship) -> None:
    engine.answers["POST", "/containers/a/stop"] = (204, None)
    engine.answers["POST", "/containers/b/stop"] = (404, {"message": "No such container: b"})
    engine.answers["POST", "/containers/c/stop"] = (204, None)
    ours = boxship("stop", "a", "b", "c")
    assert ours == (1, "a\nc\n", "Error response from daemon: No such container: b\n")
    status, out, err = docker("stop", "a", "b", "c")
    assert (status, sorted(out.split()), err) == (1, ["a", "c"], ours[2])


@pytest.mark.row("RUN-46", "CLI-08")
@pytest.mark.parametrize(
    ("message", "status"),
    [
        ('exec: "nosuch": executable file not found in $PATH: unknown', 127),
        ('exec: "/etc": permission denied: unknown', 126),
        ("driver failed programming external connectivity", 125),
    ],
)
def test_a_failed_start_gives_the_status_of_a_shell(message, status, engine, docker, boxship) -> None:
    engine.answers["POST", "/containers/create"] = (201, {"Id": "ab" * 32})
    engine.answers["POST", f"/containers/{'ab' * 32}/start"] = (400, {"message": message})
    engine.answers["POST", f"/containers/{'ab' * 32}/wait"] = (200, {"StatusCode": 0})
    ours = boxship("run", "-d", "busybox", "x")
    assert ours == docker("run", "-d", "busybox", "x")
    assert ours[0] == status
