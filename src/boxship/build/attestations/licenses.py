"""Licenses as packages state them, as expressions that an SPDX document may hold (SPDX 2.3, annex D) (pure)."""

from __future__ import annotations

import hashlib
import re

# Of SPDX's list, what packages of distributions and of language registries name most; other names stand as texts of their own.
_LIST = """
0BSD AFL-2.1 AFL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-1.0 Artistic-1.0-Perl Artistic-2.0
BlueOak-1.0.0 BSD-1-Clause BSD-2-Clause BSD-3-Clause BSD-4-Clause BSL-1.0 bzip2-1.0.6 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0
CC-BY-SA-4.0 CC0-1.0 CDDL-1.0 curl ECL-2.0 EPL-1.0 EPL-2.0 EUPL-1.2 FTL GFDL-1.2-only GFDL-1.3-only GPL-1.0-only
GPL-1.0-or-later GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later HPND ICU IJG ISC LGPL-2.0-only
LGPL-2.0-or-later LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later libpng-2.0 Libpng libtiff MIT MIT-0
MPL-1.1 MPL-2.0 MS-PL NCSA OFL-1.1 OLDAP-2.8 OpenSSL PHP-3.01 PostgreSQL PSF-2.0 Python-2.0 QPL-1.0 Ruby SSH-OpenSSH
TCL Unicode-DFS-2016 Unlicense UPL-1.0 Vim W3C WTFPL X11 Zlib ZPL-2.1
"""
_EXCEPTION_LIST = """
Autoconf-exception-3.0 Bison-exception-2.2 Classpath-exception-2.0 GCC-exception-3.1 Linux-syscall-note LLVM-exception
OpenSSL-exception
"""
KNOWN = frozenset(_LIST.split())
_EXCEPTIONS = frozenset(_EXCEPTION_LIST.split())
_WORD = re.compile(r"\(|\)|[^\s()]+")


def expression(stated: str) -> tuple[str, dict[str, str]]:
    """Return what a package states as an expression, and the texts of licenses that are named in it but not SPDX's.

    NOASSERTION when nothing is stated.
    """
    if not stated:
        return "NOASSERTION", {}
    if _is_expression(_WORD.findall(stated)):
        return " ".join(_WORD.findall(stated)).replace("( ", "(").replace(" )", ")"), {}
    name = f"LicenseRef-{hashlib.sha256(stated.encode()).hexdigest()[:16]}"
    return name, {name: stated}


def _is_expression(words: list[str]) -> bool:
    """Return whether the words are known licenses, joined as the grammar asks."""
    depth, wants_license = 0, True
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if wants_license:
            if word == "(":
                depth += 1
            elif word in KNOWN:
                wants_license = False
            else:
                return False
        elif word == ")" and depth:
            depth -= 1
        elif word in ("AND", "OR"):
            wants_license = True
        elif word == "WITH" and words[position - 2] in KNOWN and position < len(words):
            if words[position] not in _EXCEPTIONS:
                return False
            position += 1
        else:
            return False
    return not wants_license and depth == 0
