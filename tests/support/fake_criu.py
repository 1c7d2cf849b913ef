"""A program ``criu`` that saves nothing: it answers as CRIU's worker does, and fails or stops where a file beside it says.

``mode`` holds a word for what it shall do; ``state`` gets its own pid once it has come to the place where it stops.

=============  ==========================================================================================================
``fail``       write a log with errors and fail
``garbage``    answer with bytes that are no message
``end``        end without an answer
``hang``       stop before anything is done
``save``       go through the steps of a dump, with an image, and kill the process as a dump does unless that is to run on
``save-hang``  stop after the checkpoint has got its name, before the process is killed
``save-fail``  fail after that
=============  ==========================================================================================================
"""

import os
import signal
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from boxship.runtime.checkpoints import messages

HERE = Path(os.environ["FAKE_CRIU"])


def field(number: int, value: int | bytes) -> bytes:
    """Encode a field of a message shorter than 128 bytes."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def stop() -> None:
    (HERE / "state.new").write_text(str(os.getpid()))
    (HERE / "state.new").rename(HERE / "state")
    signal.pause()


def main() -> None:
    mode = (HERE / "mode").read_text().strip()
    with socket.socket(fileno=int(sys.argv[2])) as sock:
        fields = dict(messages._fields(sock.recv(65536)))
        kind, options = fields[1], dict(messages._fields(fields[2]))
        (asker, *_) = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        files = Path(f"/proc/{asker}/fd")
        if mode == "hang":
            stop()
        if mode == "end":
            return
        if mode == "garbage":
            sock.send(b"\xff\xff\xff")
            return
        if mode == "fail":
            log = files / str(options[17]) / options[10].decode()
            log.write_text("(00.1) Error (criu/x.c:7): something is wrong with it\nError (criu/y.c:1): FAILED.\n")
            sock.send(field(1, kind) + field(2, 0))
            return
        (files / str(options[1]) / "core-1.img").write_bytes(b"saved")
        sock.send(field(1, messages.NOTIFY) + field(2, 1) + field(5, field(1, b"post-dump") + field(2, 1)))
        go_on = dict(messages._fields(sock.recv(65536))).get(3)
        if mode == "save-hang":
            stop()
        if mode == "save-fail" or not go_on:
            sock.send(field(1, kind) + field(2, 0) + field(9, b"late failure"))
            return
        if not options.get(3):
            os.kill(options[2], signal.SIGKILL)
        sock.send(field(1, kind) + field(2, 1))


main()
