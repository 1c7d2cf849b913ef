import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src"
SCRIPT = """
import json, os, sys
from boxship.runtime import selfexe
selfexe.protect()
fd = os.open("/proc/self/exe", os.O_PATH)
try:
    os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND))
    answer = "writable"
except OSError as exc:
    answer = exc.strerror
print(json.dumps([answer, selfexe.is_protected(), sys.argv[1:], os.environ["KEPT"], sys.prefix]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files they are")
def test_r1_the_interpreter_runs_from_a_file_that_cannot_be_written() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "one", "two"],
        env={"PYTHONPATH": str(SOURCE), "KEPT": "kept"},
        capture_output=True,
        text=True,
        check=True,
    )
    answer, protected, argv, kept, prefix = json.loads(done.stdout)
    assert answer != "writable"
    assert protected
    assert argv == ["one", "two"]
    assert kept == "kept"
    assert prefix == sys.prefix
