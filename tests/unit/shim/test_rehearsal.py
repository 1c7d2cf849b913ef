"""The rehearsal must stay a success: what fails in it would be learnt in vain, and silently."""

import subprocess
import sys
from pathlib import Path

import boxship


def test_a_rehearsal_meets_no_error():
    source = Path(boxship.__file__).parent.parent
    code = f"""
import sys
sys.path.insert(0, {str(source)!r})
from boxship.shim import records, rehearsal
records.note_error = lambda state_dir: sys.exit(str(sys.exc_info()[1]))
rehearsal.rehearse()
"""
    result = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
