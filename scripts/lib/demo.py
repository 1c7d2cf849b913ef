"""The demo: each step is a command line that a user would type, with its output and the time it took."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.engine import Engine

TIMINGS: list[tuple[str, float]] = []


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print a step's title, and remember how long it took."""
    print(f"\n== {title}", flush=True)
    begun = time.monotonic()
    yield
    TIMINGS.append((title, time.monotonic() - begun))


def boxship(engine: Engine, *args: str, quiet: bool = False, timeout: float = 900) -> str:
    """Run our command line and show it; ends the demo when it fails."""
    print(f"$ boxship {' '.join(args)}", flush=True)
    result = engine.boxship(*args, check=False, timeout=timeout)
    if result.returncode != 0:
        print(result.stdout + result.stderr)
        raise SystemExit(f"that failed with exit code {result.returncode}")
    shown = (result.stdout + result.stderr).strip()
    if shown and not quiet:
        print(shown, flush=True)
    return result.stdout.strip()


def fetch(engine: Engine, url: str) -> str:
    """Fetch a page from the host's side of the engine's network, waiting for the server to listen."""
    program = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=5).read().decode())"
    until = time.monotonic() + 30
    while True:
        result = subprocess.run(
            [*engine.namespace.prefix(), sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        if result.returncode == 0:
            return result.stdout
        if time.monotonic() > until:
            raise SystemExit(f"no answer from {url}: {result.stderr[-500:]}")
        time.sleep(0.2)


def main() -> None:
    """Run the demo in a network namespace of its own, with its own data root."""
    engine = Engine(uplink=True)
    try:
        with step("start an engine with its own data root"):
            engine.start()
            boxship(engine, "version", "--format", "engine {{.Server.Version}}, API {{.Server.APIVersion}}")
        with step("hello-world, built in"):
            boxship(engine, "run", "--rm", "hello-world")
        debian = make_debian(engine)
        image, command = (
            ("boxship-demo-web", ()) if debian else ("busybox", ("httpd", "-f", "-v", "-p", "80", "-h", "/srv"))
        )
        if debian:
            install_nginx(engine, image)
        else:
            print("\nNo package archive can be reached: going on with busybox and its httpd.")
            with step("make a base image from the host's static busybox"):
                boxship(engine, "image", "bootstrap", "busybox")
        serve(engine, image, command)
    finally:
        with step("clean up"):
            engine.close()
    print("\nWhat it took:")
    for title, seconds in TIMINGS:
        print(f"  {seconds:8.2f} s  {title}")


def make_debian(engine: Engine) -> bool:
    """Make a Debian image from the package archive; return False when there is no archive or no tool for it."""
    if not (shutil.which("mmdebstrap") or shutil.which("debootstrap")):
        return False
    with step("make a Debian image from the package archive"):
        result = engine.boxship("image", "bootstrap", "debian:bookworm", check=False, timeout=1800)
        print((result.stdout + result.stderr)[-1500:].strip())
    return result.returncode == 0


def install_nginx(engine: Engine, image: str) -> None:
    """Install nginx in a container with network, and keep the result as an image."""
    with step("apt-get install nginx in a container"):
        script = (
            "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends nginx"
            " && ln -sf /dev/stdout /var/log/nginx/access.log"
        )
        result = engine.boxship(
            "run",
            "--name",
            "build",
            *apt_configuration(),
            "debian:bookworm",
            "sh",
            "-c",
            script,
            check=False,
            timeout=1800,
        )
        print("\n".join((result.stdout + result.stderr).splitlines()[-4:]))
        if result.returncode != 0:
            raise SystemExit(f"apt-get failed with exit code {result.returncode}")
    with step("keep it as an image (export | import)"):
        tar = engine.root / "web.tar"
        boxship(engine, "export", "--output", str(tar), "build")
        boxship(
            engine, "import", "--change", 'CMD ["nginx", "-g", "daemon off;"]', "--change", "EXPOSE 80", str(tar), image
        )
        tar.unlink()
        boxship(engine, "rm", "build")


def apt_configuration() -> list[str]:
    """Give the container the host's way to the package archive (proxy, certificates), where the host has one."""
    mounts = []
    for path in sorted(Path("/etc/apt/apt.conf.d").glob("*")):
        if any(word in path.read_text(errors="replace") for word in ("Proxy", "Acquire::https", "Verify-Peer")):
            mounts += ["-v", f"{path}:{path}:ro"]
    return mounts


def serve(engine: Engine, image: str, command: tuple[str, ...]) -> None:
    """Run the web server, fetch its page through the published port, look at it, stop it."""
    site = engine.root / "site"
    site.mkdir()
    (site / "index.html").write_text("<h1>Hello from a Boxship container</h1>\n")
    place = "/srv" if command else "/var/www/html"
    with step("run the web server, published on port 8080"):
        boxship(engine, "run", "-d", "--name", "web", "-p", "8080:80", "-v", f"{site}:{place}:ro", image, *command)
    with step("fetch the page through the port"):
        print(fetch(engine, "http://127.0.0.1:8080/").strip())
    with step("look at it: ps, exec, logs, stats"):
        boxship(engine, "ps")
        boxship(engine, "exec", "web", "cat", "/etc/hostname")
        boxship(engine, "logs", "--tail", "3", "web")
        boxship(engine, "stats", "--no-stream")
    with step("kill -9 the engine; the container goes on serving"):
        engine.kill()
        print(fetch(engine, "http://127.0.0.1:8080/").strip())
        engine.start()
        boxship(engine, "ps")
    with step("stop and remove"):
        boxship(engine, "stop", "--timeout", "5", "web")
        boxship(engine, "rm", "web")


if __name__ == "__main__":
    main()
