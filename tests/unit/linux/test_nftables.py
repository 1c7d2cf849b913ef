"""libnftables by ctypes: what needs no rights; the rules themselves are tested with the networks."""

from __future__ import annotations

import pytest

from boxship.linux import nftables
from boxship.linux.netlink import Message, attribute, text

HEAD = b"\x02\x00\x00\x00"  # nfgenmsg: family ip


def change(kind, payload, port_id=7):
    return nftables.read_change(Message(nftables.NFNL_SUBSYS_NFTABLES << 8 | kind, 0, 0, port_id, payload))


def test_a_change_tells_its_table_and_who_asked_for_it():
    found = change(nftables.NFT_MSG_NEWTABLE, HEAD + text(1, "boxship_x"))
    assert found is not None
    assert (found.table, found.port_id, found.created) == ("boxship_x", 7, True)
    found = change(8, HEAD + text(1, "boxship_x") + attribute(2, b"chain\0"))
    assert found is not None
    assert not found.created


def test_the_end_of_a_transaction_and_other_subsystems_are_no_change():
    assert change(nftables.NFT_MSG_NEWGEN, HEAD + attribute(1, bytes(4))) is None
    assert nftables.read_change(Message(1 << 8, 0, 0, 0, HEAD + text(1, "x"))) is None
    assert change(0, HEAD) is None


def test_an_error_carries_the_whole_message_and_shows_its_first_line():
    error = nftables.NftError("Error: syntax error\nadd tabel\n    ^^^^^\n")
    assert error.strerror == "Error: syntax error"
    assert error.output.endswith("^^^^^\n")


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nftables, "_LIBRARY", "libnftables-that-is-not-there.so.1")
    with pytest.raises(nftables.LibraryMissing, match="package libnftables1"):
        nftables.Context()


def test_a_command_is_checked_without_being_carried_out():
    with nftables.Context() as nft:
        with pytest.raises(nftables.NftError, match="syntax error") as raised:
            nft.run("add tabel ip x", dry_run=True)
        assert "tabel" in raised.value.output


def test_a_closed_context_refuses_and_closes_once():
    nft = nftables.Context()
    nft.close()
    nft.close()
    with pytest.raises(ValueError, match="closed"):
        nft.run("list tables")
