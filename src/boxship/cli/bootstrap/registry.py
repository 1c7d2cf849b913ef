"""A root filesystem that runs our registry server, made of what runs this command: a stand-in for the image ``registry:2``.

No archive is asked: the interpreter of this installation, its standard library, the packages that the server imports and the
shared libraries that all of these link to are copied from the host. They fit together because they do so here.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import boxship
from boxship.cli.bootstrap.debian import BootstrapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LIBRARY = "/opt/boxship"
CONFIG = "/etc/docker/registry/config.yml"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
CHANGES = (
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    f"ENV PYTHONPATH={LIBRARY} PYTHONDONTWRITEBYTECODE=1 SSL_CERT_FILE={AUTHORITIES}",
    'ENTRYPOINT ["/bin/registry"]',
    f'CMD ["{CONFIG}"]',
    "EXPOSE 5000",
    "VOLUME /var/lib/registry",
)

# Asks the interpreter what the server consists of, as the server would find it.
_PROBE = """
import json, os, sys, sysconfig
before = set(sys.modules)
import boxship.registry.server.main
standard = sysconfig.get_path("stdlib")
places = set()
for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None)
    if name in before or not file or file.startswith(standard + os.sep):
        continue
    parts = name.split(".")[: 2 if name.startswith("boxship.") else 1]
    top = sys.modules[".".join(parts)]
    path = getattr(top, "__file__", None) or file
    places.add((".".join(parts), os.path.dirname(path) if hasattr(top, "__path__") else path))
print(json.dumps([os.path.realpath(sys._base_executable), standard, sorted(places)]))
"""
_LEFT_OUT = frozenset(
    (
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "ensurepip",
        "tkinter",
        "turtledemo",
        "pydoc_data",
        "site-packages",
        "dist-packages",
    )
)
_REGISTRY = """#!{interpreter}
import sys

from boxship.registry.server.main import main

sys.exit(main(sys.argv[1:]))
"""
_FILES = {
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    CONFIG.lstrip(
        "/"
    ): "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /var/lib/registry\nhttp:\n  addr: :5000\n",
}
_DIRECTORIES = {"dev": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755, "tmp": 0o1777, "var/lib/registry": 0o755}


def bootstrap_registry(log: Callable[[str], None]) -> Iterator[bytes]:
    """Yield the tar. Raises BootstrapError before the first piece."""
    interpreter, standard, places = _probe()
    log(f"copying {interpreter} with its library and {len(places)} packages")
    files = {path: path for path in _standard_library(standard)}
    files[interpreter] = interpreter
    for name, place in places:
        files |= _package(name, place)
    for path in _linked([path for path in files.values() if path.endswith(".so") or path == interpreter]):
        files.setdefault(path, path)
    if os.path.exists(AUTHORITIES):
        files[AUTHORITIES] = AUTHORITIES
    shell = shutil.which("busybox")
    if shell is not None:
        files["/bin/busybox"] = shell
    return _pack(files, _REGISTRY.format(interpreter=interpreter), with_shell=shell is not None)


def _probe() -> tuple[str, str, list[tuple[str, str]]]:
    """Return interpreter, standard library, and name and place of each package."""
    root = os.path.dirname(os.path.abspath(boxship.__path__[0]))
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False
    )
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise BootstrapError(f"the registry server does not run here: {reason}")
    interpreter, standard, places = json.loads(done.stdout)
    return interpreter, standard, [(name, place) for name, place in places]


def _standard_library(top: str) -> Iterator[str]:
    """Yield the paths of what programs need of the standard library."""
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith("config-")]
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                yield path


def _package(name: str, place: str) -> dict[str, str]:
    """Return the files of one package or module, and of the libraries that its wheel brought beside it."""
    base = os.path.join(LIBRARY, *name.split("."))
    if os.path.isfile(place):
        return {f"{os.path.dirname(base)}/{os.path.basename(place)}": place}
    files: dict[str, str] = {}
    tops = [(base, place)]
    if name == "boxship":  # its packages are named one by one
        return {f"{base}/__init__.py": os.path.join(place, "__init__.py")}
    if os.path.isdir(f"{place}.libs"):
        tops.append((f"{base}.libs", f"{place}.libs"))
    for inside, outside in tops:
        for folder, _, names in os.walk(outside):
            target = inside + folder[len(outside) :]
            files |= {f"{target}/{name}": os.path.join(folder, name) for name in names}
    return files


def _linked(programs: Iterable[str]) -> set[str]:
    """Return the shared libraries that programs of this host are linked to, with the loader."""
    found: set[str] = set()
    done = subprocess.run(["ldd", *programs], capture_output=True, check=False)
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        words = line.split()
        path = words[2] if len(words) > 2 and words[1] == "=>" else words[0] if words else ""
        if line.startswith("\t") and path.startswith("/") and os.path.isfile(path):
            found.add(path)
    if not found:
        raise BootstrapError("ldd does not tell which shared libraries the interpreter needs")
    return found


def _pack(files: dict[str, str], program: str, *, with_shell: bool) -> Iterator[bytes]:
    """Yield the tar of files by their path in the image; directories come before what is in them."""
    buffer = io.BytesIO()
    made: set[str] = set()

    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def directory(path: str, mode: int = 0o755) -> None:
            if path in made or not path:
                return
            directory(os.path.dirname(path))
            made.add(path)
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)

        def text(path: str, content: str, mode: int = 0o644) -> None:
            directory(os.path.dirname(path))
            entry = tarfile.TarInfo(path)
            data = content.encode()
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))

        for path, mode in _DIRECTORIES.items():
            directory(path, mode)
        for path, content in _FILES.items():
            text(path, content)
        text("bin/registry", program, 0o755)
        if with_shell:
            entry = tarfile.TarInfo("bin/sh")
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, "busybox", 0o777
            tar.addfile(entry)
        for path, source in sorted(files.items()):
            path = path.lstrip("/")
            directory(os.path.dirname(path))
            with open(source, "rb") as file:
                info = os.fstat(file.fileno())
                entry = tarfile.TarInfo(path)
                entry.size, entry.mtime = info.st_size, int(info.st_mtime)  # compiled files name their source's time
                entry.mode = 0o755 if info.st_mode & 0o111 else 0o644
                tar.addfile(entry, file)
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
