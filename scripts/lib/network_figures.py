"""What published ports and many networks cost, beside the same kernel path set up by hand; medians of alternating runs."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from boxship.networks import NetworkService, PublishedPort, Sandbox
from boxship.spec.docker.network import NetworkCreate
from harness.network_lab import Lab, enter, make_namespace, publish, run_isolated

PORT, CONNECTIONS_PORT = 5201, 5202
BY_HAND = """
ip link add br0 type bridge
ip address add 10.9.0.1/24 dev br0
ip link set br0 up
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.br0.route_localnet=1
nft 'table ip hand { chain output { type nat hook output priority -100;
 fib daddr type local tcp dport { 5201, 5202 } dnat to 10.9.0.2; };
 chain postrouting { type nat hook postrouting priority 100; ip saddr 127.0.0.0/8 oifname br0 masquerade; }; }'
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=4000, help="networks")
    parser.add_argument("-r", type=int, default=9, help="runs of each path")
    parser.add_argument("-t", type=float, default=1, help="seconds of a run")
    options = parser.parse_args()
    root = tempfile.mkdtemp(prefix="boxship-figures-")

    async def scenario(lab: Lab) -> None:
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", flush=True)
        await many_ports(lab)
        await paths(lab, options.r, options.t)

    async def networks(lab: Lab) -> None:
        await many_networks(lab, options.n)

    try:
        for work in (scenario, *([networks] if options.n else [])):
            directory = tempfile.mkdtemp(dir=root)
            report = run_isolated(directory, work, seconds=3600)
            if report:
                raise SystemExit(report)
    finally:
        shutil.rmtree(root, ignore_errors=True)


async def many_ports(lab: Lab) -> None:
    """Add and take away one port beside 500."""
    service = await lab.service("ports")
    box = await lab.attach(service, "web", port_bindings=publish(*(f":{10000 + n}:80/tcp" for n in range(500))))
    firewall = service._host.firewall
    assert firewall is not None
    address = box.endpoints[0].address
    added, removed = [], []
    for number in range(200):
        port = PublishedPort(
            protocol="tcp", host_ip="0.0.0.0", host_port=20000 + number, container_ip=address, container_port=80
        )
        begun = time.perf_counter()
        firewall.publish([port])
        between = time.perf_counter()
        firewall.unpublish([port])
        added.append(between - begun)
        removed.append(time.perf_counter() - between)
    print(f"one port more than 500 in the firewall: {spread(added)}; one less: {spread(removed)}", flush=True)
    await service.release(box)
    await service.close()


async def paths(lab: Lab, runs: int, seconds: float) -> None:
    """Compare throughput and connections of both ways to a container with paths made by hand."""
    program = compile_connections(lab.root)
    service = await lab.service("paths")
    bindings = publish(f":{PORT}:{PORT}/tcp", f":{CONNECTIONS_PORT}:{CONNECTIONS_PORT}/tcp")
    web = await lab.attach(service, "web", port_bindings=bindings)
    client = await lab.attach(service, "client")
    host, boxes = by_hand(lab)
    servers = []
    for where in (web.key, boxes[0]):
        servers += [
            start(where, "iperf3", "-s", "-p", str(PORT)),
            start(where, program, "serve", str(CONNECTIONS_PORT)),
        ]
    try:
        ways: dict[str, list[tuple[str | None, str]]] = {
            "published port on loopback": [(None, "127.0.0.1"), (host, "127.0.0.1")],
            "between containers": [(client.key, web.endpoints[0].address), (boxes[1], "10.9.0.2")],
        }
        for name, (ours, theirs) in ways.items():
            for what, measure in (("throughput", throughput), ("connections", connections(program))):
                found: list[list[float]] = [[], []]
                for number in range(runs):
                    for side in (0, 1) if number % 2 else (1, 0):
                        found[side].append(measure(*(ours, theirs)[side], seconds))
                own, hand = map(statistics.median, found)
                ratio = statistics.median(a / b for a, b in zip(*found, strict=True))
                unit = "Gbit/s" if what == "throughput" else "a second"
                print(
                    f"{name}, {what}: {own:,.1f} {unit}, by hand {hand:,.1f}: "
                    f"{own / hand:.3f} of it (median of pairs {ratio:.3f})",
                    flush=True,
                )
    finally:
        for server in servers:
            server.kill()
            server.wait()
    await end(service, web, client)


def by_hand(lab: Lab) -> tuple[str, list[str]]:
    """Make a host of its own with a bridge, two containers and a published port; return their namespaces."""
    host, boxes = f"{lab.root}/by-hand", [f"{lab.root}/box{number}" for number in (2, 3)]
    for path in (host, *boxes):
        os.close(make_namespace(path))
    run(host, "sh", "-ec", BY_HAND)
    for number, path in zip((2, 3), boxes, strict=True):
        run(host, "ip", "link", "add", f"v{number}", "type", "veth", "peer", "name", f"e{number}")
        run(host, "ip", "link", "set", f"v{number}", "master", "br0", "up")
        keeper = start(path, "sleep", "60")
        run(host, "ip", "link", "set", f"e{number}", "netns", str(keeper.pid))
        keeper.kill()
        keeper.wait()
        for words in (f"address add 10.9.0.{number}/24 dev e{number}", f"link set e{number} up"):
            run(path, "ip", *words.split())
        run(path, "ip", "route", "add", "default", "via", "10.9.0.1")
    return host, boxes


def throughput(where: str | None, address: str, seconds: float) -> float:
    """Return Gbit/s of one TCP connection."""
    done = run(where, "iperf3", "-c", address, "-p", str(PORT), "-t", str(seconds), "-J")
    return float(json.loads(done)["end"]["sum_received"]["bits_per_second"]) / 1e9


def connections(program: str) -> Callable[[str | None, str, float], float]:
    """Return what measures connections a second, one after the other."""
    return lambda where, address, seconds: float(
        run(where, program, "ask", address, str(CONNECTIONS_PORT), str(seconds))
    )


def compile_connections(directory: str) -> str:
    program = f"{directory}/connections"
    subprocess.run(["gcc", "-O2", "-o", program, Path(__file__).with_name("connections.c")], check=True)
    return program


def begin(where: str | None) -> None:
    """Go to a namespace, before other programs of a busy machine: the processors are shared by what is compared only."""
    enter(where)
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def run(where: str | None, *command: str) -> str:
    done = subprocess.run(
        command, preexec_fn=lambda: begin(where), capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def start(where: str | None, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, preexec_fn=lambda: begin(where), stdout=subprocess.DEVNULL)


async def many_networks(lab: Lab, count: int) -> None:
    """Make so many networks in one namespace, and see what they cost."""
    service = await lab.service("many")
    taken = []
    begun = time.perf_counter()
    for number in range(count):
        at = time.perf_counter()
        await service.create(NetworkCreate(name=f"n{number}"))
        taken.append(time.perf_counter() - at)
        if number + 1 in {100, 1000, 2000, 3000, count}:
            print(f"network {number + 1}: {spread(taken[-100:])}; all so far in {time.perf_counter() - begun:.0f} s")
    attached = []
    for _ in range(20):
        at = time.perf_counter()
        box = await lab.attach(service, "web", f"n{count - 1}", port_bindings=publish(":8080:80/tcp"))
        attached.append(time.perf_counter() - at)
        await service.release(box)
    print(f"a container with a published port beside them: {spread(attached)}")
    at = time.perf_counter()
    listed = len(await service.list({}))
    print(f"list of {listed}: {(time.perf_counter() - at) * 1e3:.0f} ms")
    removed = []
    for number in range(min(count, 100)):
        at = time.perf_counter()
        await service.remove(f"n{number}")
        removed.append(time.perf_counter() - at)
    print(f"removal: {spread(removed)}")
    at = time.perf_counter()
    await service.close()
    print(f"end, all bridges removed: {time.perf_counter() - at:.1f} s")
    at = time.perf_counter()
    service = await lab.service("many")
    print(f"start with {count - len(removed)} networks: {time.perf_counter() - at:.1f} s")
    await service.close()


async def end(service: NetworkService, *boxes: Sandbox) -> None:
    for box in boxes:
        await service.release(box)
    await service.close()


def spread(taken: list[float]) -> str:
    ordered = sorted(taken)
    return f"median {ordered[len(ordered) // 2] * 1e3:.2f} ms, p95 {ordered[len(ordered) * 95 // 100] * 1e3:.2f} ms"


if __name__ == "__main__":
    main()
