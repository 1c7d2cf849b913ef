import os
import stat
import subprocess

import pytest

from boxship.daemon.claims import Claimed, DataRootLock, PidFile, make_directories


@pytest.mark.row("ENG-08")
def test_a_data_root_has_one_daemon(tmp_path):
    lock = DataRootLock(str(tmp_path))
    with pytest.raises(Claimed, match=rf"data root {tmp_path} is used by another boxshipd \(process {os.getpid()}\)"):
        DataRootLock(str(tmp_path))
    lock.release()
    DataRootLock(str(tmp_path)).release()


@pytest.mark.row("ENG-10")
def test_a_pid_file_of_a_living_process_refuses(tmp_path):
    path = tmp_path / "pid"
    path.write_text("1\n")
    with pytest.raises(Claimed, match=r"^process with PID 1 is still running$"):
        PidFile(str(path))
    assert path.read_text() == "1\n"


@pytest.mark.row("ENG-10")
@pytest.mark.parametrize("content", [None, "", "nonsense", "own", "dead"])
def test_a_pid_file_of_nobody_is_replaced(tmp_path, content):
    path = tmp_path / "run" / "pid"
    path.parent.mkdir()
    if content == "own":
        content = str(os.getpid())
    elif content == "dead":
        child = subprocess.Popen(["true"])
        child.wait()
        content = str(child.pid)
    if content is not None:
        path.write_text(content)
    file = PidFile(str(path))
    assert path.read_text() == str(os.getpid())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    file.remove()
    assert not path.exists()


def test_a_zombie_does_not_hold_a_pid_file(tmp_path):
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    path = tmp_path / "pid"
    path.write_text(str(child.pid))
    PidFile(str(path)).remove()
    child.wait()


def test_a_pid_file_that_names_another_is_left_alone(tmp_path):
    path = tmp_path / "pid"
    file = PidFile(str(path))
    path.write_text("1")
    file.remove()
    assert path.read_text() == "1"


@pytest.mark.row("ENG-08")
def test_roots_are_closed_to_strangers(tmp_path):
    data, run = tmp_path / "a" / "data", tmp_path / "b" / "run"
    run.mkdir(parents=True, mode=0o777)
    make_directories(str(data), str(run), group="no-such-group")
    for path in (data, run):
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
