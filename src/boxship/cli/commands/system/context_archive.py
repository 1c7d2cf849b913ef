"""``context export`` and ``import``: one context with its TLS files as an archive, in docker's form.

The archive comes from elsewhere: only the names that a context has are taken from it, and no more than LIMIT bytes.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile

from boxship.cli.command import STDIN, STDOUT, Command, ExitError, write
from boxship.cli.commands.system.context import check_name, names, read, write_meta
from boxship.client import jsontext
from boxship.client.config import context_directories, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

LIMIT = 10 * 1024 * 1024  # bytes, as docker
META = "meta.json"
TLS = "tls"


def export(session: Session, values: Values) -> int:
    """Write a context's archive to a new file, by default NAME.dockercontext, or to stdout for ``-``."""
    name = values.arguments[0]
    target = values.arguments[1] if len(values.arguments) > 1 else f"{name}.dockercontext"
    archive = _archive(session, name)
    if target == "-":
        if os.isatty(STDOUT):
            raise ExitError("cowardly refusing to export to a terminal, specify a file path")
        write(STDOUT, archive)
        return 0
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ExitError(f"open {target}: {(exc.strerror or '').lower()}") from exc
    with open(descriptor, "wb") as file:
        file.write(archive)
    session.error(f'Written file "{target}"')
    return 0


def import_(session: Session, values: Values) -> int:
    """Keep the context of an archive under a new name."""
    name, source = values.arguments
    check_name(name)
    if name in names(session):
        raise ExitError(f'context "{name}" already exists')
    document, tls = _contents(_read(source))
    meta, tls_directory = context_directories(name, session.config)
    try:
        for path, content in tls.items():
            target = f"{tls_directory}/{path}"
            os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
        write_meta(session, {**document, "Name": name})
    except BaseException:
        shutil.rmtree(meta, ignore_errors=True)
        shutil.rmtree(tls_directory, ignore_errors=True)
        raise
    session.line(name)
    session.error(f'Successfully imported context "{name}"')
    return 0


def _archive(session: Session, name: str) -> bytes:
    context = read(session, name)
    document = {key: context[key] for key in ("Name", "Metadata", "Endpoints")}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:

        def add(path: str, content: bytes | None, mode: int) -> None:
            member = tarfile.TarInfo(path)
            member.mode, member.type = mode, tarfile.REGTYPE if content is not None else tarfile.DIRTYPE
            member.size = len(content or b"")
            archive.addfile(member, io.BytesIO(content or b""))

        add(META, jsontext.dumps(document).encode(), 0o644)
        add(TLS, None, 0o700)
        held = f"{context_directories(name, session.config)[1]}"
        for endpoint, files in context["TLSMaterial"].items():
            add(f"{TLS}/{endpoint}", None, 0o700)
            for file in files:
                add(f"{TLS}/{endpoint}/{file}", read_file(f"{held}/{endpoint}/{file}"), 0o600)
    return buffer.getvalue()


def _read(source: str) -> bytes:
    try:
        with open(STDIN if source == "-" else source, "rb", closefd=source != "-") as file:
            data = file.read(LIMIT + 1)
    except OSError as exc:
        raise ExitError(f"open {source}: {(exc.strerror or '').lower()}") from exc
    if len(data) > LIMIT:
        raise ExitError("read exceeds the defined limit")
    return data


def _contents(data: bytes) -> tuple[dict[str, object], dict[str, bytes]]:
    """Return the document and the TLS files (ENDPOINT/FILE -> content) of an archive. Raises ExitError."""
    found = None
    tls: dict[str, bytes] = {}
    for path, content in _members(data):
        if path == META:
            try:
                found = jsontext.loads(content)
            except ValueError as exc:
                raise ExitError(f"invalid {META}: {exc}") from exc
            continue
        parts = path.split("/")
        if len(parts) != 3 or parts[0] != TLS or any(part in ("", ".", "..") for part in parts):
            raise ExitError(f"{path}: unexpected context file")
        tls[f"{parts[1]}/{parts[2]}"] = content
    if found is None:
        raise ExitError("invalid context: no metadata found")
    endpoints = found.get("Endpoints") if isinstance(found, dict) else None
    if not isinstance(endpoints, dict) or not isinstance(endpoints.get("docker", {}), dict):
        raise ExitError(f"invalid {META}: no endpoints")
    metadata = found.get("Metadata")
    return {"Name": "", "Metadata": metadata if isinstance(metadata, dict) else {}, "Endpoints": endpoints}, tls


def _members(data: bytes) -> list[tuple[str, bytes]]:
    """Return the regular files of a tar or zip archive, together no more than LIMIT bytes."""
    room = LIMIT
    members = []
    try:
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as zipped:
                for info in zipped.infolist():
                    if info.is_dir():
                        continue
                    with zipped.open(info) as file:
                        content = file.read(room + 1)
                    room -= len(content)
                    if room < 0:
                        raise ExitError("read exceeds the defined limit")
                    members.append((info.filename, content))
            return members
        # docker's own archives lack the last block's padding and the end.
        with tarfile.open(fileobj=io.BytesIO(data + bytes(-len(data) % 512)), mode="r:") as archive:
            for member in archive:
                if member.size > LIMIT:  # a sparse file is longer than its archive
                    raise ExitError("read exceeds the defined limit")
                if member.offset_data + member.size > len(data):
                    raise ExitError("unexpected EOF")
                held = archive.extractfile(member) if member.isreg() else None
                if held is not None:
                    members.append((member.name, held.read()))
                elif not member.isdir():
                    raise ExitError(f"{member.name}: unexpected context file")
    except tarfile.TarError as exc:
        raise ExitError("archive/tar: invalid tar header") from exc
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as exc:
        raise ExitError(f"zip: {exc}") from exc
    return members


COMMANDS = {
    "context export": Command("[OPTIONS] CONTEXT [FILE|-]", export, least=1, most=2),
    "context import": Command("CONTEXT FILE|-", import_, least=2, most=2),
}
