"""Builds Dockerfiles of tests/system/build with a real dockerd: those named, else all.

``--record`` keeps what it made, else it is compared with what was kept.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from harness import builds
from harness.dockerd import Dockerd
from harness.images import import_busybox


def main() -> int:
    cases = [word for word in sys.argv[1:] if word != "--record"] or builds.CASES
    found = {}
    peer = Dockerd()
    peer.start()
    try:
        import_busybox(peer, builds.BASE)
        base = builds.files(peer, builds.BASE)
        with tempfile.TemporaryDirectory(prefix="boxship-builds-") as directory:
            for case in cases:
                name = f"case-{case}"
                builds.build(peer, builds.context(case, Path(directory), peer=True), name)
                found[case] = builds.observe(peer, name, base)
                print(f"{case}: {len(found[case]['files'])} files", flush=True)
    finally:
        peer.close()
    if "--record" in sys.argv[1:]:
        builds.RECORDED.write_text(json.dumps({**builds.recorded(), **found}, indent=1, sort_keys=True) + "\n")
        return 0
    different = [case for case in cases if builds.recorded().get(case) != found[case]]
    print(f"different: {', '.join(different) or 'none'}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
