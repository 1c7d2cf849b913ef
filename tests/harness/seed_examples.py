"""Every runnable example of the five texts (S0 to S4) that the platform was asked for by, and where it is shown to work.

``python -m harness.seed_examples > docs/seed-examples.md`` (with tests on the path) writes the page anew.
"""

from __future__ import annotations

from typing import NamedTuple

HERE = "tests/system/test_seed_examples.py::test_example"
REGISTRY = "tests/system/registries/test_seed_registries.py::test_example_with_a_registry"
PACKAGES = "tests/system/builds/test_apt_examples.py"
SECTIONS = {"S0": 34, "S1": 117, "S2": 138, "S3": 181, "S4": 194}  # the last number of each text


class Example(NamedTuple):
    """What is typed, shortened, and its place: a test, or what it still waits for."""

    words: str
    place: str


EXAMPLES: dict[int, Example] = {
    1: Example("docker ps", "tests/system/test_rows_run.py::test_ps_shows_its_columns"),
    2: Example("docker images", "tests/system/test_rows_logs.py::test_images_lists_what_tag_names"),
    3: Example("docker --version", HERE),
    4: Example("docker pull nginx:1.10.2-alpine", REGISTRY),
    5: Example("docker run --name MyHumanReadableContainerName -p 80:80 nginx:1.10.2-alpine", HERE),
    6: Example("docker run -d --name TAKEN (the conflict)", HERE),
    7: Example("docker stop NAME", HERE),
    8: Example("docker exec -ti NAME ./bin/sh", HERE),
    9: Example("docker stop, docker start (the writable layer stays)", HERE),
    10: Example("docker run -v own.conf:/etc/nginx/nginx.conf:ro -p 80:80 nginx", HERE),
    11: Example("docker run -v srcdir:/usr/share/nginx/html:ro (hot reload)", HERE),
    12: Example("docker build -t zipnginx:1.0 .", HERE),
    13: Example("docker build -t todov1 .", f"{PACKAGES}::test_two_bases_and_a_page_that_listens_where_it_is_told"),
    14: Example("docker pull of an image for Windows", REGISTRY),
    15: Example("winpty docker run -it nanoserver cmd.exe", HERE),
    16: Example("docker commit 3b759322ae28 helloworld", HERE),
    17: Example("docker run hello-world", "tests/system/images/test_bootstrap.py::test_hello_world_needs_nothing"),
    18: Example("docker run --interactive --tty ubuntu bash", HERE),
    19: Example("docker run --detach --publish 80:80 --name webserver nginx", HERE),
    20: Example("docker container ls -a", HERE),
    21: Example("docker restart NAME", HERE),
    22: Example("docker volume create my-vol", HERE),
    23: Example("docker run -d --name devtest --mount source=myvol2,target=/app nginx:latest", HERE),
    24: Example("docker run -d --name devtest -v myvol2:/app nginx:latest", HERE),
    25: Example("docker volume create --driver local -o type=tmpfs -o device=tmpfs v", HERE),
    26: Example("two containers with the same volume", HERE),
    27: Example("FROM ubuntu:15.04, RUN make /app (history, shared layers)", HERE),
    28: Example("docker build --tag=<my-name>:<my-optional-tag> .", HERE),
    29: Example("docker stack deploy -c docker-compose.yml getstartedlab", "open: swarm"),
    30: Example("a killed task is replaced", "open: swarm"),
    31: Example("a published port on every node", "open: swarm"),
    32: Example('docker-machine ssh <vm> "docker swarm init ..."', "open: machines"),
    33: Example("a stateful service with a volume", "open: swarm"),
    34: Example("two containers by name, host network, macvlan, overlay", "open: swarm"),
    35: Example("docker run --rm -ti alpine:latest /bin/sh", HERE),
    36: Example(
        "dockerd -H unix://... -H tcp://0.0.0.0:2375",
        "tests/system/test_rows_engine.py::test_one_engine_answers_on_its_socket_and_on_tcp",
    ),
    37: Example("docker run --privileged --pid=host debian nsenter -t 1 -m -u -n -i sh", HERE),
    38: Example("docker build -t example/docker-node-hello:latest .", HERE),
    39: Example("docker build again: Using cache; --no-cache", HERE),
    40: Example("a failing RUN: Step 7/14, exit code 100", HERE),
    41: Example("docker run -d -p 8080:8080 example/docker-node-hello:latest", f"{PACKAGES}::test_the_node_example"),
    42: Example("echo $DOCKER_HOST", "open: machines"),
    43: Example("docker stop 85fc21edaad9", HERE),
    44: Example("docker login", REGISTRY),
    45: Example("docker tag, push, remove, pull", REGISTRY),
    46: Example(
        "docker export ID -o web-app.tar; tar -tvf web-app.tar",
        "tests/system/test_commit.py::test_export_lists_what_dockers_users_expect",
    ),
    47: Example("docker exec -ti <id of 46> sh", HERE),
    48: Example("docker image inspect alpine:latest", HERE),
    49: Example("FROM golang:alpine as builder ... FROM scratch", HERE),
    50: Example("FROM fedora / RUN dnf install -y httpd; docker history", HERE),
    51: Example("a clean-up as a layer of its own", HERE),
    52: Example("a clean-up in the same layer", HERE),
    53: Example("order of steps and the cache", HERE),
    54: Example('docker create --name="awesome-service" ubuntu:latest sleep 120', HERE),
    55: Example("docker run -d --name has-some-labels -l deployer=Ahmed -l tester=Asako ubunt", HERE),
    56: Example("docker run --rm -ti ubuntu:latest /bin/bash", HERE),
    57: Example('docker run --rm -ti --hostname="mycontainer.example.com" ubuntu /bin/bash', HERE),
    58: Example("docker run --rm -ti --dns=8.8.8.8 --dns=8.8.4.4 --dns-search=example1.com --", HERE),
    59: Example("docker run --rm -ti -v /mnt/session_data:/data ubuntu /bin/bash", HERE),
    60: Example("docker run --rm -ti --read-only=true -v /mnt/session_data:/data ubuntu /bin/", HERE),
    61: Example("docker run -v ...:/data:z", HERE),
    62: Example(
        "docker run progrium/stress --cpu 2 --io 1 --vm 2; --cpu-shares",
        "tests/system/test_run_flags.py::test_a_flag_takes_effect",
    ),
    63: Example("docker run --cpuset-cpus=0", HERE),
    64: Example("docker run --cpu-quota=50000", HERE),
    65: Example('docker run --cpus="40.25"', HERE),
    66: Example('docker update --cpus="1.5" <id> <id>', HERE),
    67: Example("docker run --memory 512m; --memory-swap=768m", HERE),
    68: Example("docker run --memory-swap=-1", HERE),
    69: Example("docker run --memory 20m", HERE),
    70: Example("docker create -p 6379:6379 redis:5.0", HERE),
    71: Example("docker run --restart=on-failure:3", HERE),
    72: Example("docker stop -t 25; docker kill -s HUP", HERE),
    73: Example("docker pause; docker unpause", HERE),
    74: Example(
        "docker system prune", "tests/system/test_prune.py::test_system_prune_takes_all_kinds_and_leaves_what_is_used"
    ),
    75: Example("docker rm $(docker ps -a -q)", HERE),
    76: Example("docker version", "tests/system/test_rows_engine.py::test_version_has_a_client_and_a_server_block"),
    77: Example("docker info", "tests/system/test_rows_engine.py::test_info_has_the_lines_people_look_for"),
    78: Example("docker pull ubuntu:latest", REGISTRY),
    79: Example("docker run -d -t ubuntu /bin/bash", HERE),
    80: Example("docker run -i -t ubuntu:16.04 /bin/bash", HERE),
    81: Example("docker run --rm IMAGE /bin/false; echo $?", HERE),
    82: Example("docker exec -it <id> /bin/bash", HERE),
    83: Example(
        "lxc exec third -- /bin/bash (a contrast, nothing to run here)",
        "not here: a contrast with another system, nothing to run",
    ),
    84: Example("docker run --rm -v /usr/local/bin:/target jpetazzo/nsenter", HERE),
    85: Example("docker volume ls", HERE),
    86: Example("docker logs 422ed51e84fc --tail 50", HERE),
    87: Example(
        "docker run --log-opt max-size=... --log-opt max-file=...",
        "tests/system/test_rows_logs.py::test_logs_are_rotated_and_read_across_files",
    ),
    88: Example("docker run --log-driver=syslog", "open: logging drivers"),
    89: Example("docker run --log-opt mode=non-blocking", "open: logging drivers"),
    90: Example("docker run --log-driver=none", "tests/system/test_rows_logs.py::test_the_driver_none_keeps_nothing"),
    91: Example("docker stats", "tests/system/test_rows_logs.py::test_stats_has_its_columns_and_options"),
    92: Example(
        "curl --unix-socket /var/run/docker.sock http://v1/containers/<id>/stats",
        "tests/system/test_rows_logs.py::test_the_stats_call_has_dockers_document",
    ),
    93: Example(
        "HEALTHCHECK; --health-interval, --health-retries, --no-healthcheck",
        "tests/system/test_health.py::test_the_flags_fill_the_configuration_and_can_switch_an_images_check_off",
    ),
    94: Example("docker events", HERE),
    95: Example("docker run --volume=/:/rootfs:ro ... --detach=true --name=cadvisor", HERE),
    96: Example("daemon.json: metrics-addr", "open: metrics"),
    97: Example(
        "docker cp, export, save, import, load",
        "tests/system/test_copy.py::test_cp_puts_files_and_directories_where_docker_does",
    ),
    98: Example("docker top <id>", HERE),
    99: Example("docker run -i -t alpine:3.6 sh; --init", HERE),
    100: Example("docker network ls", "tests/system/test_rows_net.py::test_three_networks_are_there_and_stay"),
    101: Example("docker history redis:5.0", HERE),
    102: Example(
        "ls <root>/containers/<id>", "tests/system/test_rows_engine.py::test_the_directories_of_data_root_and_container"
    ),
    103: Example("sudo docker diff <id>", HERE),
    104: Example("docker-compose: Rocket.Chat, five services", "open: compose"),
    105: Example(
        "docker-compose: a missing build context",
        "tests/system/peers/test_compose.py::test_a_build_context_that_is_missing_is_named",
    ),
    106: Example(
        "docker-compose: .env", "tests/system/peers/test_compose.py::test_services_without_more_find_each_other"
    ),
    107: Example("docker run -e ENVIRONMENT=testing ... /opt/awesome_app/test.sh", HERE),
    108: Example("docker node ls", "open: swarm"),
    109: Example("minikube start, status, ip, stop", "open: Kubernetes"),
    110: Example("kubectl run hello-minikube --image=ECHO --port=8080", "open: Kubernetes"),
    111: Example("kubectl expose deployment hello-minikube --type=NodePort", "open: Kubernetes"),
    112: Example("kubectl delete service hello-minikube", "open: Kubernetes"),
    113: Example("kubectl create -f lazyraster-service.yaml", "open: Kubernetes"),
    114: Example("minikube service --url lazyraster", "open: Kubernetes"),
    115: Example(
        "docker image list (untagged rows); names of Compose 1", "tests/system/test_rows_logs.py::test_prune_and_df"
    ),
    116: Example("docker rm `docker ps --no-trunc -aq`; docker images -q | xargs docker rmi", HERE),
    117: Example("docker exec -it ID /bin/bash (no bash there)", HERE),
    118: Example("docker image build -t maintain/name:version .", HERE),
    119: Example("docker run -d -p 80:80 docker/getting-started", HERE),
    120: Example("docker container run -it --name test alpine sh", HERE),
    121: Example("docker image push maintainer/name:version", REGISTRY),
    122: Example("docker ps", HERE),
    123: Example("docker image build -t tag . (FROM alpine, nodejs)", HERE),
    124: Example(
        "journalctl -u docker.service",
        "tests/system/test_rows_engine.py::test_the_log_of_an_open_port_is_json_and_warns",
    ),
    125: Example("a log driver in daemon.json (Splunk)", "open: logging drivers"),
    126: Example("docker swarm init --autolock", "open: swarm"),
    127: Example("docker swarm update --autolock=true", "open: swarm"),
    128: Example("three managers: a killed leader", "open: swarm"),
    129: Example("two bridges on one host", HERE),
    130: Example("docker network create -d overlay -o encrypted NET", "open: swarm"),
    131: Example("macvlan", HERE),
    132: Example(
        "docker network inspect <name>", "tests/system/test_rows_net.py::test_three_networks_are_there_and_stay"
    ),
    133: Example("ping of a service by name", "open: swarm"),
    134: Example("ingress on a node without a task", "open: swarm"),
    135: Example("docker volume create/inspect/ls/rm", HERE),
    136: Example("docker secret create <secretName> <fileName>", "open: swarm"),
    137: Example("docker stack deploy -c stackfile.yml <name>", "open: swarm"),
    138: Example("docker-compose up", "open: compose"),
    139: Example("docker version; docker run hello-world", HERE),
    140: Example("docker run docker/whalesay cowsay Hello-World!", HERE),
    141: Example("docker run nginx", REGISTRY),
    142: Example("docker rmi of an image in use", HERE),
    143: Example("docker run ubuntu", HERE),
    144: Example("docker run ubuntu sleep 5", HERE),
    145: Example(
        "docker run in front; docker attach",
        "tests/system/test_docker_cli.py::test_attach_without_a_terminal_sees_output_and_gives_the_exit_code",
    ),
    146: Example("docker run redis:4.0", HERE),
    147: Example(
        "the prompt program with -i and -it",
        "tests/system/test_rows_run.py::test_input_and_terminal_of_the_prompt_demo",
    ),
    148: Example("docker run -p 8080:5000 kodekloud/webapp", HERE),
    149: Example(
        "docker run -v /opt/datadir:/var/lib/mysql mysql",
        "tests/system/peers/test_testcontainers.py::test_postgresql_answers_queries",
    ),
    150: Example("docker inspect; docker logs; docker run -e APP_COLOR=blue", HERE),
    151: Example("FROM Ubuntu (a name in capitals); a Flask application", HERE),
    152: Example("docker build Dockerfile --tag mmumshad/my-custom-app", HERE),
    153: Example("a failing step, then fixed", HERE),
    154: Example('CMD sleep 5 and CMD ["sleep","5"]', HERE),
    155: Example('ENTRYPOINT ["sleep"]', HERE),
    156: Example("docker run --entrypoint sleep2.0 ubuntu-sleeper 10", HERE),
    157: Example("docker run ubuntu --network=none; --network=host", HERE),
    158: Example("docker network create --driver bridge --subnet 182.18.0.0/16 custom-isolated", HERE),
    159: Example("names on a network of the user's", HERE),
    160: Example("docker run --network=wp-mysql-network -e DB_Host=mysql-db -e DB_Password=db_", HERE),
    161: Example("what is in the data root", HERE),
    162: Example("two builds with common first steps", HERE),
    163: Example("docker volume create data_volume", HERE),
    164: Example("docker run -v ~/data/mysql:/var/lib/mysql; --mount type=bind", HERE),
    165: Example(
        "docker-compose: a file with services only",
        "tests/system/peers/test_compose.py::test_services_without_more_find_each_other",
    ),
    166: Example("the voting application with --link", HERE),
    167: Example("docker-compose: version 1", "open: compose"),
    168: Example("docker-compose: version 1 with build", "open: compose"),
    169: Example("docker-compose: version 2", "open: compose"),
    170: Example(
        "docker-compose: two networks",
        "tests/system/peers/test_compose.py::test_the_voting_application_on_two_networks",
    ),
    171: Example(
        "docker-compose run without a service",
        "tests/system/peers/test_compose.py::test_run_without_a_service_is_a_mistake",
    ),
    172: Example("docker login; a private image", REGISTRY),
    173: Example("docker run registry:2; docker push localhost:5000/my-image", REGISTRY),
    174: Example("docker -H=10.123.2.1:2375 run nginx", HERE),
    175: Example("a process inside and outside", HERE),
    176: Example("docker run --cpus=0.5 ubuntu", HERE),
    177: Example("docker service --replicas=100 nodejs", "open: swarm"),
    178: Example("docker swarm init", "open: swarm"),
    179: Example("docker service create --replicas=3 my-web-server", "open: swarm"),
    180: Example("kubectl run, scale, rolling-update", "open: Kubernetes"),
    181: Example("kubectl run hello-minikube", "open: Kubernetes"),
    182: Example("Dockerfile: RUN, EXPOSE, ENV", HERE),
    183: Example("docker pull busybox", HERE),
    184: Example("docker ps", HERE),
    185: Example("docker run -d -P --name static-site IMG", HERE),
    186: Example("docker search TERM", REGISTRY),
    187: Example("docker run -p 8888:5000 user/image", HERE),
    188: Example("docker push user/image", REGISTRY),
    189: Example("docker build -t NAME (no context); docker network create", HERE),
    190: Example("docker-compose: elasticsearch and a web application", "open: compose"),
    191: Example(
        "docker-compose: a counter on Redis",
        "tests/system/peers/test_compose.py::test_a_counter_is_built_and_keeps_its_count",
    ),
    192: Example("docker-compose up -d", "open: compose"),
    193: Example("hostname, ps, namespaces of one's own", HERE),
    194: Example("ip route add, mount: refused by default, allowed with --cap-add", HERE),
}


def page() -> str:
    """Return docs/seed-examples.md."""
    shown = sum("::" in example.place for example in EXAMPLES.values())
    lines = [
        "# Examples that have to work",
        "",
        "Boxship is measured by the runnable examples of five introductions to containers, numbered S0 to S4 by text. Each is",
        "typed as it stands there, with stand-in images made from busybox and Debian packages. `tests/system/seed/` holds them",
        "as shell sessions with their expected output; others are proven by the test that is named. This page is generated by",
        f"`tests/harness/seed_examples.py` and checked by a test: {shown} of {len(EXAMPLES)} examples work, the others say what they wait for.",
        "",
        "| example | words | where |",
        "|---|---|---|",
    ]
    for number, example in EXAMPLES.items():
        section = next(name for name, last in SECTIONS.items() if number <= last)
        words = example.words.replace("|", "\\|")
        place = f"session {number}" if example.place == HERE else example.place
        lines.append(f"| {section}-{number} | {words} | {place} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
