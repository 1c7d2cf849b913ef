"""What the tests in the virtual machine of scripts/vm came to: from its serial line to the terminal and docs/cgroup-v2.md."""

from __future__ import annotations

import argparse
import sys
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/cgroup-v2.md"
MARK = "<!-- written by scripts/vm --write -->\n"


def main() -> int:
    """Print the result, write it to the page when asked; the exit code says whether every test passed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    kernel, _, document = options.result.read_text().partition("\n") if options.result.exists() else ("", "", "")
    if not document.strip():
        print("the machine sent no result", file=sys.stderr)
        return 2
    passed: dict[str, list[str]] = defaultdict(list)
    skipped: dict[str, int] = defaultdict(int)
    failed = []
    for case in ET.fromstring(document).iter("testcase"):  # noqa: S314 - written by our own pytest
        module, name = case.get("classname", "").replace(".", "/"), case.get("name", "")
        skip = case.find("skipped")
        if skip is not None:
            skipped[(skip.get("message") or "").strip()] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{module}: {name}")
        else:
            passed[module].append(name)
    count = sum(map(len, passed.values()))
    print(f"kernel {kernel}: {count} passed, {len(failed)} failed, {sum(skipped.values())} skipped")
    for line in failed:
        print(f"FAILED {line}")
    if options.write:
        head = PAGE.read_text().partition(MARK)[0]
        PAGE.write_text(head + MARK + "\n".join(_page(kernel, passed, skipped, failed)) + "\n")
    return int(bool(failed))


def _page(kernel: str, passed: dict[str, list[str]], skipped: dict[str, int], failed: list[str]) -> list[str]:
    day = time.strftime("%Y-%m-%d")
    lines = ["", f"Kernel {kernel}, {day}: {sum(map(len, passed.values()))} passed, {len(failed)} failed.", ""]
    lines += [f"- failed: {line}" for line in failed]
    for module, names in passed.items():
        words = dict.fromkeys(name.partition("[")[0].removeprefix("test_").replace("_", " ") for name in names)
        lines += [f"`{module}` ({len(names)}):", "", *(f"- {word}" for word in words), ""]
    lines += ["Left out:", "", *(f"- {count}: {reason}" for reason, count in skipped.items())]
    return lines


if __name__ == "__main__":
    sys.exit(main())
