"""libnftables by ctypes: run nft commands, as text or JSON, in one transaction without starting a program.

A :class:`Context` acts in the network namespace of the thread that made it, for its whole life. One command that adds an
element takes about 0.05 ms. See libnftables(3).
"""

from __future__ import annotations

import ctypes
import errno

from boxship.linux.netlink import NETLINK_NETFILTER, Message, Socket, read_attributes

NFT_CTX_OUTPUT_JSON = 1 << 4  # nftables/libnftables.h
NFT_CTX_DEFAULT = 0
_LIBRARY = "libnftables.so.1"

NFNL_SUBSYS_NFTABLES = 10  # linux/netfilter/nfnetlink.h
NFNLGRP_NFTABLES = 7
NFT_MSG_NEWTABLE = 0  # linux/netfilter/nf_tables.h
NFT_MSG_NEWRULE, NFT_MSG_DELRULE = 6, 8
NFT_MSG_NEWGEN = 15
NFTA_RULE_CHAIN = 2
NFTA_TABLE = 1  # the table's name has this number in messages about tables, chains, rules, sets and elements alike
_NFGENMSG_BYTES = 4


class NftError(OSError):
    """nft refused a command; ``output`` is its whole message, the text of the exception its first line."""

    def __init__(self, output: str) -> None:
        lines = [line for line in output.splitlines() if line.strip()]
        super().__init__(errno.EINVAL, lines[0] if lines else "nft: unknown error")
        self.output = output


class LibraryMissing(OSError):
    """libnftables is not installed on this host."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ENOENT, f"{_LIBRARY} is needed for container networks (package libnftables1): {reason}")


class Context:
    """One libnftables context; not for several threads at once."""

    def __init__(self) -> None:
        """Raises LibraryMissing, or OSError when the kernel has no nftables."""
        self._library = _load()
        self._context: int | None = self._library.nft_ctx_new(NFT_CTX_DEFAULT)
        if not self._context:
            raise OSError(errno.EPROTONOSUPPORT, "nft_ctx_new: the kernel offers no nftables")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str, *, dry_run: bool = False) -> str:
        """Carry out ``commands``, all or none, and return what they print; ``dry_run`` only checks them.

        Raises NftError with nft's message.
        """
        if self._context is None:
            raise ValueError("the nftables context is closed")
        library = self._library
        library.nft_ctx_set_dry_run(self._context, dry_run)
        failed = library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = library.nft_ctx_get_output_buffer(self._context) or b""
        error = library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise NftError(error.decode(errors="replace"))
        return bytes(output).decode(errors="replace")

    def run_json(self, command: str) -> str:
        """Run one listing command and return its answer as JSON text; raises NftError."""
        if self._context is None:
            raise ValueError("the nftables context is closed")
        self._library.nft_ctx_output_set_flags(self._context, NFT_CTX_OUTPUT_JSON)
        try:
            return self.run(command)
        finally:
            self._library.nft_ctx_output_set_flags(self._context, 0)

    def close(self) -> None:
        """Free the context; closing twice is no error."""
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class TableChange:
    """One change of a table or of something in it; ``port_id`` tells whose socket asked for it."""

    __slots__ = ("chain", "created", "port_id", "table")

    def __init__(self, table: str, port_id: int, *, created: bool, chain: str = "") -> None:
        self.table = table
        self.port_id = port_id
        self.created = created  # the table itself is new
        self.chain = chain  # of a rule that came or went


def open_changes() -> Socket:
    """Open a socket that hears every change of nftables in the caller's network namespace."""
    return Socket.open(NETLINK_NETFILTER, groups=1 << (NFNLGRP_NFTABLES - 1))


def read_change(message: Message) -> TableChange | None:
    """Return what a message of such a socket tells, None if it is about no table."""
    subsystem, kind = message.type >> 8, message.type & 0xFF
    if subsystem != NFNL_SUBSYS_NFTABLES or kind == NFT_MSG_NEWGEN:
        return None
    attributes = read_attributes(message.payload, _NFGENMSG_BYTES)
    if NFTA_TABLE not in attributes:
        return None
    is_rule = kind in (NFT_MSG_NEWRULE, NFT_MSG_DELRULE)
    chain = attributes.get(NFTA_RULE_CHAIN, b"") if is_rule else b""
    return TableChange(
        _text(attributes[NFTA_TABLE]), message.port_id, created=kind == NFT_MSG_NEWTABLE, chain=_text(chain)
    )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        raise LibraryMissing(str(exc)) from exc
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = (ctypes.c_uint32,)
    library.nft_ctx_free.argtypes = (ctypes.c_void_p,)
    library.nft_ctx_buffer_output.argtypes = (ctypes.c_void_p,)
    library.nft_ctx_buffer_error.argtypes = (ctypes.c_void_p,)
    library.nft_ctx_set_dry_run.argtypes = (ctypes.c_void_p, ctypes.c_bool)
    library.nft_ctx_output_set_flags.argtypes = (ctypes.c_void_p, ctypes.c_uint)
    library.nft_run_cmd_from_buffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_output_buffer.argtypes = (ctypes.c_void_p,)
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_error_buffer.argtypes = (ctypes.c_void_p,)
    return library
