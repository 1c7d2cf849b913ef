"""The daemon's life with fake services, and its command line."""

import asyncio
import io
import json
import logging
import os
import signal
import socket

import aiohttp
import pytest

from boxship.daemon import journal, main, notify, stacks
from boxship.daemon.config import load
from boxship.daemon.flags import parse
from boxship.daemon.listeners import addresses
from boxship.daemon.service import Daemon
from boxship.http.listeners import Listeners


class Services:
    """Backends that are never asked, and a life that is recorded."""

    def __getattr__(self, name):
        return None

    def __init__(self):
        self.reloaded = asyncio.Queue()
        self.closed = []

    async def reload(self, config):
        await self.reloaded.put(config)

    async def close(self, *, stop_containers):
        self.closed.append(stop_containers)


@pytest.fixture(autouse=True)
def quiet_logging():
    root, ours = logging.getLogger(), logging.getLogger("boxship")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


@pytest.fixture
def daemon(tmp_path):
    """Run a daemon, do ``work(services, path)`` while it serves, and return (exit status, services)."""

    def running(work, *arguments, file=None):
        config_file = tmp_path / "daemon.json"
        config_file.write_text(json.dumps(file or {}))
        path = str(tmp_path / "s")
        flags = parse(
            ["--config-file", str(config_file), "--exec-root", str(tmp_path), "-H", f"unix://{path}", *arguments]
        )
        config = load(flags)

        async def run():
            services = Services()

            async def start(config):
                return services

            opened = Listeners()
            where = addresses(config)
            opened.open(where, group="0", tls=None)
            life = asyncio.create_task(Daemon(config, flags, opened, where, start).run())
            connector = aiohttp.UnixConnector(path)
            async with aiohttp.ClientSession(connector=connector) as client, client.get("http://x/_ping") as answer:
                assert answer.status == 200
            await work(services, config_file)
            return await life, services

        return asyncio.run(run())

    return running


async def terminate(services, config_file):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.row("ENG-15")
def test_sigterm_stops_containers_and_ends_with_0(daemon, tmp_path):
    status, services = daemon(terminate)
    assert (status, services.closed) == (0, [True])
    assert not (tmp_path / "s").exists()


@pytest.mark.row("ENG-14")
def test_live_restore_leaves_containers_running(daemon):
    assert daemon(terminate, "--live-restore")[1].closed == [False]


@pytest.mark.row("ENG-06")
def test_sighup_reloads_the_file(daemon):
    async def work(services, config_file):
        config_file.write_text('{"debug": true, "labels": ["a=b"]}')
        os.kill(os.getpid(), signal.SIGHUP)
        changed = await services.reloaded.get()
        assert (changed.debug, changed.labels) == (True, ("a=b",))
        assert logging.getLogger("boxship").level == logging.DEBUG
        await terminate(services, config_file)

    daemon(work)


def test_sighup_with_a_bad_file_changes_nothing(daemon, caplog):
    async def work(services, config_file):
        config_file.write_text("{bad")
        os.kill(os.getpid(), signal.SIGHUP)
        while "invalid JSON" not in caplog.text:
            await asyncio.sleep(0.001)
        assert services.reloaded.empty()
        config_file.write_text("{}")
        os.kill(os.getpid(), signal.SIGHUP)
        await services.reloaded.get()
        await terminate(services, config_file)

    assert daemon(work)[0] == 0


@pytest.mark.row("ENG-15")
def test_sigusr1_writes_stacks_of_tasks_and_threads(daemon, tmp_path):
    async def work(services, config_file):
        os.kill(os.getpid(), signal.SIGUSR1)
        while not list(tmp_path.glob("task-stacks-*.log")):
            await asyncio.sleep(0.001)
        await terminate(services, config_file)

    daemon(work)
    [dump] = tmp_path.glob("task-stacks-*.log")
    text = dump.read_text()
    assert "thread MainThread" in text
    assert "_reload_on_hangup" in text


def test_stacks_name_every_task():
    async def waiting_for_godot():
        await asyncio.Future()

    async def run():
        task = asyncio.create_task(waiting_for_godot(), name="godot")
        await asyncio.sleep(0)
        text = stacks.describe()
        task.cancel()
        return text

    text = asyncio.run(run())
    assert "task godot:" in text
    assert "waiting_for_godot" in text


@pytest.mark.row("ENG-12")
def test_systemd_hears_of_readiness(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify.notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    notify.notify("STOPPING=1")  # the manager is gone: no error


@pytest.mark.row("ENG-11")
def test_log_lines_are_text_or_json():
    log = logging.getLogger("boxship.test")
    for form in ("text", "json"):
        stream = io.StringIO()
        journal.configure("info", form, stream)
        log.debug("unseen")
        log.warning('said "hi"\nand left')
        line = stream.getvalue()
        assert line.count("\n") == 1
        if form == "text":
            assert line.startswith('time="')
            assert line.endswith(' level=warning msg="said \\"hi\\"\\nand left"\n')
        else:
            assert json.loads(line)["msg"] == 'said "hi"\nand left'


def test_a_traceback_is_one_field():
    stream = io.StringIO()
    journal.configure("info", "text", stream)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("boxship").exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError: why" in stream.getvalue()


@pytest.mark.row("ENG-07")
def test_validate_starts_nothing(tmp_path, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"debug": true}')
    bad.write_text('{"nonsense": true}')
    assert main.main(["--validate", "--config-file", str(good)]) == 0
    assert capsys.readouterr().err == "configuration OK\n"
    assert main.main(["--validate", "--config-file", str(bad)]) == 1
    assert capsys.readouterr().err == (
        f"unable to configure the Docker daemon with file {bad}: "
        "the following directives don't match any configuration option: nonsense\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "stream", "text"),
    [
        (["--version"], 0, "out", "Boxship version "),
        (["-v"], 0, "out", "Boxship version "),
        (["--help"], 0, "out", "\nUsage:  "),
        (["--foo"], 1, "err", "unknown flag: --foo\nSee '"),
        (["foo"], 1, "err", '"'),
    ],
)
def test_the_command_line(capsys, arguments, status, stream, text):
    assert main.main(arguments) == status
    assert getattr(capsys.readouterr(), stream).startswith(text)
