"""A root filesystem is looked through by descriptor and without trust; what is found makes a valid SPDX document."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from boxship.build.attestations import scan, spdx
from boxship.build.attestations.packages import Distribution, Package
from boxship.build.attestations.scan import Contents

ID = f"sha256:{'5' * 64}"


def look(root: Path) -> Contents:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return scan.contents(fd)
    finally:
        os.close(fd)


def put(root: Path, path: str, text: str | bytes) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def names(found: Contents) -> list[str]:
    return [package.name for package in found.packages]


def fill(root: Path) -> None:
    put(root, "usr/lib/os-release", "ID=debian\nVERSION_ID=12\nPRETTY_NAME=Debian\n")
    (root / "etc").mkdir()
    (root / "etc/os-release").symlink_to("/usr/lib/os-release")
    put(
        root, "var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\nMaintainer: A (b) <a@b.c>\n"
    )
    put(root, "var/lib/dpkg/status.d/b", "Package: b\nVersion: 2\nHomepage: https://b.org/x\n")
    put(root, "var/lib/dpkg/status.d/b.md5sums", "Package: wrong\nVersion: 2\n")
    put(root, "lib/apk/db/installed", "P:c\nV:3\nL:MIT AND custom\nU:javascript:alert(1)\n")
    put(root, "usr/lib/python3/d-4.dist-info/METADATA", "Name: d\nVersion: 4\n")
    put(root, "usr/lib/python3/e.egg-info/PKG-INFO", "Name: e\nVersion: 5\n")
    put(root, "usr/lib/python3/f.egg-info", "Name: f\nVersion: 6\n")
    put(root, "app/node_modules/g/package.json", '{"name":"g","version":"7","license":"MIT"}')
    put(root, "app/node_modules/g/test/package.json", '{"name":"no","version":"7"}')
    put(root, "app/node_modules/g/node_modules/@h/h/package.json", '{"name":"@h/h","version":"8"}')
    put(root, "other/node_modules/g/package.json", '{"name":"g","version":"7","license":"MIT"}')
    put(root, "app/package.json", '{"name":"no","version":"7"}')


def test_packages_of_all_kinds_are_found_and_equal_trees_give_equal_documents(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        fill(tmp_path / place)
    found = look(tmp_path / "one")
    assert names(found) == ["c", "a", "b", "g", "g", "h", "d", "e", "f"]
    assert found.distribution == Distribution("debian", "12", "Debian") and not found.skipped
    documents = [spdx.encode(spdx.document(ID, "app:1", look(tmp_path / place), 10**18)) for place in ("one", "two")]
    assert documents[0] == documents[1]
    packages = {package["name"]: package for package in json.loads(documents[0])["packages"]}
    assert (
        packages["g"]["sourceInfo"] == "found in /app/node_modules/g/package.json, /other/node_modules/g/package.json"
    )
    assert packages["a"]["supplier"] == "Person: A b (a@b.c)"
    assert packages["b"]["homepage"] == "https://b.org/x" and packages["c"]["homepage"] == "NOASSERTION"


def test_links_loops_devices_and_giants_harm_nobody(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root, "var/lib/dpkg/status", "Package: inside\nStatus: install ok installed\nVersion: 1\n")
    put(tmp_path, "outside", "P:outside\nV:1\n")
    (root / "lib/apk/db").mkdir(parents=True)
    (root / "lib/apk/db/installed").symlink_to(f"../../../../../../{tmp_path}/outside")
    (root / "loop").symlink_to("loop")
    (root / "var/lib/dpkg/status.d").symlink_to("/loop")
    put(root, "x/node_modules/y/package.json", "{}").unlink()
    os.mkfifo(root / "x/node_modules/y/package.json")
    giant = put(root, "p/big.dist-info/METADATA", "Name: big\nVersion: 1\n")
    os.truncate(giant, scan.DOCUMENT + 1)
    (root / "self").symlink_to(".")
    put(root, "q/link.dist-info/x", "")
    (root / "q/link.dist-info/METADATA").symlink_to("/p/big.dist-info/METADATA")
    found = look(root)
    assert names(found) == ["inside"]
    assert found.skipped == [f"/p/big.dist-info/METADATA: {scan.DOCUMENT + 1} bytes"]
    assert "Not looked at" in spdx.document(ID, "", found, 0)["creationInfo"]["comment"]


def test_names_of_any_bytes_make_a_document(tmp_path: Path) -> None:
    put(tmp_path, "a/node_modules/x/package.json", '{"name":"x","version":"1"}')
    os.rename(os.fsencode(tmp_path / "a"), os.fsencode(tmp_path) + b"/\xff\n")
    document = json.loads(spdx.encode(spdx.document(ID, "", look(tmp_path), 0)))
    assert document["packages"][1]["sourceInfo"].startswith("found in /")


def test_there_is_an_end_to_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "PACKAGES", 3)
    put(tmp_path, "lib/apk/db/installed", "".join(f"P:p{number}\nV:1\n\n" for number in range(9)))
    found = look(tmp_path)
    assert len(found.packages) == 3 and found.skipped == ["all packages after the first 3"]


@pytest.mark.filterwarnings("ignore")  # of the checker's own libraries
def test_the_rules_of_spdx_are_kept(tmp_path: Path) -> None:
    pytest.importorskip("spdx_tools", reason="spdx-tools is not installed")
    from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    fill(tmp_path)
    found = look(tmp_path)
    strange = Package(type="npm", name="ü ß", version="", source="ä b", license="Ü (c)", supplier="<>", homepage="x y")
    found = found._replace(packages=[*found.packages, strange], skipped=["/x: 9 bytes"])
    document: dict[str, Any] = json.loads(spdx.encode(spdx.document(ID, "app:1", found, 1_700_000_000 * 10**9)))
    messages = validate_full_spdx_document(JsonLikeDictParser().parse(document))
    assert [message.validation_message for message in messages] == []
