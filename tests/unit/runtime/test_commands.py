import json
import os
from pathlib import Path

import pytest

from boxship.linux import pidfd
from boxship.runtime import main
from boxship.runtime.commands import lifecycle, state
from boxship.runtime.commands.options import FLAG, LIST, VALUE, UsageError, parse
from boxship.runtime.failure import RuntimeFailure

TABLE = {"bundle b": VALUE, "detach d": FLAG, "env e": LIST}


def test_options_have_long_and_short_names() -> None:
    options = parse(["-b", "one", "--bundle=two", "-d", "-e", "A=1", "--env", "B=2", "id"], TABLE)
    assert options.value("bundle") == "two"
    assert options.flag("detach")
    assert options.values("env") == ["A=1", "B=2"]
    assert options.args == ["id"]


def test_after_the_first_argument_all_belongs_to_somebody_else() -> None:
    options = parse(["-d", "id", "-b", "x"], TABLE, stop_at_argument=True)
    assert options.args == ["id", "-b", "x"]
    assert parse(["--", "-d"], TABLE).args == ["-d"]


def test_a_flag_can_be_switched_off() -> None:
    assert not parse(["--detach=false"], TABLE).flag("detach")


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["--nope"], "flag provided but not defined: -nope"), (["-b"], "flag needs an argument: -b")],
)
def test_wrong_options_are_named(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(argv, TABLE)


@pytest.mark.parametrize(("text", "number"), [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("term", 15), ("0", 0)])
def test_signals_are_names_or_numbers(text: str, number: int) -> None:
    assert lifecycle.parse_signal(text) == number


@pytest.mark.parametrize("text", ["NOPE", "999", "-1", ""])
def test_unknown_signals_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        lifecycle.parse_signal(text)


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a b", "x" * 1025, "ü"])
def test_an_id_cannot_leave_the_root(tmp_path: Path, id: str) -> None:
    with pytest.raises(RuntimeFailure, match="invalid id format"):
        state.reserve(str(tmp_path), id, "/b", {}, "/c")


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    state.reserve(str(tmp_path), "one", "/b", {}, "/c")
    with pytest.raises(RuntimeFailure, match="container with given ID already exists"):
        state.reserve(str(tmp_path), "one", "/b", {}, "/c")


def test_state_survives_a_reload(tmp_path: Path) -> None:
    container = state.reserve(str(tmp_path), "one", "/b", {"root": {"path": "rootfs"}}, "/c")
    container.pid, container.start_time = os.getpid(), pidfd.start_time(os.getpid())
    container.save()
    loaded = state.load(str(tmp_path), "one")
    assert (loaded.bundle, loaded.cgroup_path, loaded.pid) == ("/b", "/c", os.getpid())
    assert loaded.open_init() >= 0
    assert [each.id for each in state.load_all(str(tmp_path))] == ["one"]


def test_a_reused_pid_is_not_the_container(tmp_path: Path) -> None:
    container = state.reserve(str(tmp_path), "one", "/b", {"root": {"path": "rootfs"}}, "/c")
    container.pid, container.start_time = os.getpid(), pidfd.start_time(os.getpid()) - 1
    assert container.open_init() == -1
    assert container.status() == "stopped"
    assert container.document()["pid"] == 0


def test_state_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    container = state.reserve(str(tmp_path), "one", "/b", {}, "/c")
    path = Path(container.directory) / "state.json"
    path.write_text(json.dumps(dict(json.loads(path.read_text()), version=state.VERSION + 1)))
    with pytest.raises(RuntimeFailure, match="newer version"):
        state.load(str(tmp_path), "one")


@pytest.mark.row("ENG-22")
def test_features_and_spec_are_documents_of_the_runtime_spec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["features"]) == 0
    features = json.loads(capsys.readouterr().out)
    assert "rro" in features["mountOptions"]
    assert main.run(["spec", "--bundle", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "config.json").read_text())["process"]["args"] == ["sh"]
    assert main.run(["spec", "--bundle", str(tmp_path)]) == 1


def test_errors_go_to_stderr_and_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    argv = ["--root", str(tmp_path), "--log", str(log), "--log-format", "json", "state", "none"]
    assert main.run(argv) == 1
    assert json.loads(log.read_text())["msg"] == "boxship-runtime state failed: container does not exist"
    assert "container does not exist" in capsys.readouterr().err
