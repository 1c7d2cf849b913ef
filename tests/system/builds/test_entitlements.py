"""Steps with more than other containers have: only when the engine's owner and the one who builds allow it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

KIND = "vendor.example/thing"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that offers everything, with CDI devices that set variables."""
    devices = tmp_path_factory.mktemp("cdi")
    specification = {
        "cdiVersion": "0.6.0",
        "kind": KIND,
        "devices": [
            {"name": name, "containerEdits": {"env": [f"{name.upper()}=here"]}, "annotations": notes}
            for name, notes in (
                ("one", {}),
                ("two", {"org.mobyproject.buildkit.device.class": "second"}),
                ("free", {"org.mobyproject.buildkit.device.autoallow": "true"}),
            )
        ],
    }
    (devices / "thing.json").write_text(json.dumps(specification))
    engine = Engine(options=[f"--cdi-spec-dir={devices}"])
    (engine.root / "daemon.json").write_text(json.dumps({"builder": {"entitlements": {"security-insecure": True}}}))
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def strict() -> Iterator[Engine]:
    """An engine that offers nothing."""
    engine = Engine()
    offer = {"network-host": False, "security-insecure": False, "device": False}
    (engine.root / "daemon.json").write_text(json.dumps({"builder": {"entitlements": offer}}))
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


def _build(engine: Engine, directory: Path, step: str, *flags: str) -> subprocess.CompletedProcess[str]:
    (directory / "Dockerfile").write_text(f"FROM busybox\nRUN {step}\n")
    command = ("build", "--progress", "plain", "--force-rm", "--no-cache", *flags)
    return engine.boxship(*command, str(directory), check=False)


CAPABILITIES = "grep CapEff /proc/self/status"


@pytest.mark.row("BLD-10")
def test_an_insecure_step_is_privileged_when_that_is_allowed(engine: Engine, tmp_path: Path) -> None:
    status = Path("/proc/self/status").read_text()
    every = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd"))
    step = f"--security=insecure {CAPABILITIES} && mount -t tmpfs none /mnt"
    done = _build(engine, tmp_path, f"mkdir /mnt\nRUN {step}", "--allow", "security.insecure")
    assert done.returncode == 0, done.stderr
    assert f"CapEff:\t{every}\n" in done.stderr
    plain = _build(engine, tmp_path, f"{CAPABILITIES}", "--allow", "security.insecure")
    assert f"CapEff:\t{every}\n" not in plain.stderr and "CapEff" in plain.stderr
    refused = _build(engine, tmp_path, "--security=insecure true")
    assert (refused.returncode, "security.insecure is not allowed" in refused.stderr) == (1, True)


@pytest.mark.row("BLD-10")
def test_a_step_is_in_the_hosts_network_when_that_is_allowed(engine: Engine, tmp_path: Path) -> None:
    step = "--network=host readlink /proc/self/ns/net && cat /proc/net/dev"
    done = _build(engine, tmp_path, step, "--allow", "network.host")
    host = subprocess.run(
        [*engine.namespace.prefix(), "readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True
    ).stdout
    assert done.returncode == 0 and f" {host}" in done.stderr, done.stderr
    assert _build(engine, tmp_path, step, "--network", "host").returncode == 0
    refused = _build(engine, tmp_path, step)
    assert (refused.returncode, "network.host is not allowed" in refused.stderr) == (1, True)


@pytest.mark.row("BLD-10")
@pytest.mark.parametrize(
    ("device", "allow", "variables"),
    [
        (f"{KIND}=one", "device", "ONE"),
        (f"name={KIND}=second,required=true", f"device={KIND}", "TWO"),
        (f"{KIND}=*", "device", "FREE ONE TWO"),
        (f"{KIND}=free", "network.host", "FREE"),
        (f"{KIND}=absent", "device", ""),
    ],
)
def test_a_step_gets_the_devices_that_it_names(
    engine: Engine, tmp_path: Path, device: str, allow: str, variables: str
) -> None:
    done = _build(
        engine, tmp_path, f"--device={device} echo got $(env | grep =here | sort | cut -d = -f 1)", "--allow", allow
    )
    assert done.returncode == 0, done.stderr
    assert f" got {variables}".rstrip() + "\n" in done.stderr


@pytest.mark.row("BLD-10")
@pytest.mark.parametrize(
    ("device", "allow", "words"),
    [
        (f"{KIND}=one", "network.host", f"device {KIND}=one is requested by the build but not allowed"),
        (f"{KIND}=absent,required", "device", f'required device "{KIND}=absent" is not registered'),
        (f"{KIND}=one", "everything", "unknown entitlement everything"),
    ],
)
def test_a_device_that_cannot_be_had_is_refused(
    engine: Engine, tmp_path: Path, device: str, allow: str, words: str
) -> None:
    done = _build(engine, tmp_path, f"--device={device} true", "--allow", allow)
    assert done.returncode == 1 and words in done.stderr, done.stderr
    assert engine.docker("ps", "-aq").stdout == ""


@pytest.mark.row("BLD-10")
def test_what_the_engines_owner_does_not_offer_nobody_can_allow(strict: Engine, tmp_path: Path) -> None:
    for name in ("security.insecure", "network.host", "device"):
        done = _build(strict, tmp_path, "true", "--allow", name)
        words = f"granting entitlement {name} is not allowed by build daemon configuration"
        assert done.returncode == 1 and words in done.stderr
    done = _build(strict, tmp_path, "true", "--network", "host")
    assert "granting entitlement network.host is not allowed by build daemon configuration" in done.stderr
