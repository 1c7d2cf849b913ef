"""The writing side of json-file logs."""

import contextlib
import gzip
import os
import resource
import signal

import pytest

from boxship.shim.logfile import LogFile, open_log
from boxship.wire import frames, jsonlog


def run_now(work, done) -> None:
    work()
    done()


class Aside:
    """Compression that takes as long as the test wants."""

    def __init__(self) -> None:
        self.jobs = []

    def __call__(self, work, done) -> None:
        self.jobs.append((work, done))

    def finish(self) -> None:
        for work, done in self.jobs:
            work()
            done()
        self.jobs = []


def logs(data: bytes) -> bytes:
    return b"".join(record.log for record in jsonlog.parse_lines(data.splitlines()))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log"


@pytest.mark.row("LOG-01", "LOG-03")
def test_streams_are_recorded_apart_and_last_lines_at_the_end(path):
    log = LogFile(str(path), open_log(str(path)), run_aside=run_now)
    log.write(frames.STDOUT, b"one\ntw")
    log.write(frames.STDERR, b"error\n")
    log.write(frames.STDOUT, b"o")
    assert logs(path.read_bytes()) == b"one\nerror\n"
    log.finish()
    assert logs(path.read_bytes()) == b"one\nerror\ntwo"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_second_run_goes_on_in_the_same_file(path):
    for text in (b"first\n", b"second\n"):
        log = LogFile(str(path), open_log(str(path)), run_aside=run_now)
        log.write(frames.STDOUT, text)
        log.finish()
    assert logs(path.read_bytes()) == b"first\nsecond\n"


@pytest.mark.row("LOG-04")
def test_files_end_with_the_record_that_reaches_the_limit_and_the_oldest_is_dropped(path):
    log = LogFile(str(path), open_log(str(path)), max_size=1000, max_file=3, run_aside=run_now)
    log.write(frames.STDOUT, b"".join(b"line %04d\n" % number for number in range(200)))
    log.finish()
    assert sorted(file.name for file in path.parent.iterdir()) == ["log", "log.1", "log.2"]
    for file in (path.with_name("log.1"), path.with_name("log.2")):
        data = file.read_bytes()
        assert len(data) >= 1000 > len(data) - len(data.splitlines(keepends=True)[-1])
    kept = logs(b"".join(path.with_name(name).read_bytes() for name in ("log.2", "log.1", "log")))
    assert kept.endswith(b"line 0199\n")
    assert kept == b"".join(b"line %04d\n" % number for number in range(200))[-len(kept) :]


@pytest.mark.row("LOG-04")
def test_one_file_is_begun_anew(path):
    log = LogFile(str(path), open_log(str(path)), max_size=1000, max_file=1, run_aside=run_now)
    for number in range(100):
        log.write(frames.STDOUT, b"line %04d\n" % number)
    log.finish()
    assert [file.name for file in path.parent.iterdir()] == ["log"]
    assert path.stat().st_size < 1100
    assert logs(path.read_bytes()).endswith(b"line 0099\n")


@pytest.mark.row("LOG-04")
def test_rotated_files_are_compressed(path):
    log = LogFile(str(path), open_log(str(path)), max_size=1000, max_file=3, compress=True, run_aside=run_now)
    for number in range(50):
        log.write(frames.STDOUT, b"line %04d\n" % number)
    log.finish()
    assert sorted(file.name for file in path.parent.iterdir()) == ["log", "log.1.gz", "log.2.gz"]
    packed = b"".join(gzip.decompress(path.with_name(f"log.{n}.gz").read_bytes()) for n in (2, 1))
    assert logs(packed + path.read_bytes()).endswith(b"line 0048\nline 0049\n")


def test_no_rotation_while_the_last_one_is_compressed(path):
    aside = Aside()
    log = LogFile(str(path), open_log(str(path)), max_size=100, max_file=3, compress=True, run_aside=aside)
    for number in range(20):
        log.write(frames.STDOUT, b"line %04d\n" % number)
    assert sorted(file.name for file in path.parent.iterdir()) == ["log", "log.1"]
    aside.finish()
    log.write(frames.STDOUT, b"next\n")
    assert sorted(file.name for file in path.parent.iterdir()) == ["log", "log.1", "log.2.gz"]
    aside.finish()
    log.finish()


@contextlib.contextmanager
def small_files():
    """Files cannot grow above 1000 bytes: like a full disk, but without one.

    No fixture: those end after pytest has written to its own output, which may be a file too.
    """
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old_limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)


def test_records_that_cannot_be_written_are_counted_and_never_torn(path):
    """Attack F9: the log's target fails."""
    log = LogFile(str(path), open_log(str(path)), run_aside=run_now)
    with small_files():
        for number in range(100):
            log.write(frames.STDOUT, b"line %04d\n" % number)
    assert log.dropped > 80
    whole = jsonlog.parse_lines(path.read_bytes().splitlines())
    assert len(whole) + log.dropped == 100
    assert path.read_bytes().endswith(b"}\n")
    os.truncate(path, 0)
    log.finish()


def test_a_rotation_that_fails_lets_the_file_grow(path, tmp_path):
    log = LogFile(str(path), open_log(str(path)), max_size=100, max_file=2, run_aside=run_now)
    (tmp_path / "log.new").mkdir()
    for number in range(10):
        log.write(frames.STDOUT, b"line %04d\n" % number)
    assert log.dropped == 0
    assert len(path.read_bytes().splitlines()) == 10
    log.finish()


def test_a_log_that_cannot_be_opened_is_an_error(tmp_path):
    with pytest.raises(OSError):
        open_log(str(tmp_path / "missing" / "log"))
