"""Connection tracking: forget the flows of one address or port; see nfnetlink(7) and linux/netfilter/nfnetlink_conntrack.h."""

from __future__ import annotations

import errno
import socket
import struct

from boxship.linux.netlink import Request, Socket, attribute, nested

NFNL_SUBSYS_CTNETLINK = 1  # linux/netfilter/nfnetlink.h
IPCTNL_MSG_CT_DELETE = 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_FILTER = 1, 2, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V6_SRC = 1, 3
CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 3
CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS = 1, 2
# CTA_FILTER_F_CTA_... of net/netfilter/nf_conntrack_netlink.c: what of a flow counts, all else may be anything
_COMPARE_SOURCE = 1
_COMPARE_PROTOCOL_AND_PORT = 8 | 32
_NFGENMSG = struct.Struct("=BBH")
_UINT32 = struct.Struct("=I")


def forget_source(address: str, *, replies: bool) -> Request:
    """Delete the flows that come from an address, or with ``replies`` those that it answers (published ports).

    Without this a flow of UDP goes on to the old place after its port has been published anew. Linux 5.8.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = CTA_IP_V6_SRC if family == socket.AF_INET6 else CTA_IP_V4_SRC
    source = nested(CTA_TUPLE_IP, attribute(kind, socket.inet_pton(family, address)))
    original, reply = (0, _COMPARE_SOURCE) if replies else (_COMPARE_SOURCE, 0)
    payload = (
        _NFGENMSG.pack(family, 0, 0)
        + nested(CTA_TUPLE_REPLY if replies else CTA_TUPLE_ORIG, source)
        + nested(
            CTA_FILTER,
            attribute(CTA_FILTER_ORIG_FLAGS, _UINT32.pack(original)),
            attribute(CTA_FILTER_REPLY_FLAGS, _UINT32.pack(reply)),
        )
    )
    return Request(f"forget flows of {address}", NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, payload)


def forget_datagrams_to(sock: Socket, port: int) -> None:
    """Delete all flows of UDP that were sent to ``port`` at whatever IPv4 address; none is no error. Linux 5.8."""
    protocol = attribute(CTA_PROTO_NUM, bytes([socket.IPPROTO_UDP]))
    destination = nested(CTA_TUPLE_PROTO, protocol, attribute(CTA_PROTO_DST_PORT, struct.pack(">H", port)))
    payload = (
        _NFGENMSG.pack(socket.AF_INET, 0, 0)
        + nested(CTA_TUPLE_ORIG, destination)
        + nested(
            CTA_FILTER,
            attribute(CTA_FILTER_ORIG_FLAGS, _UINT32.pack(_COMPARE_PROTOCOL_AND_PORT)),
            attribute(CTA_FILTER_REPLY_FLAGS, _UINT32.pack(0)),
        )
    )
    request = Request(f"forget datagrams to {port}", NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, payload)
    try:
        sock.execute([request])
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            raise


def forget_flows(sock: Socket, address: str) -> None:
    """Delete all flows from and to an address over a NETLINK_NETFILTER socket; none is no error."""
    for replies in (False, True):
        try:
            sock.execute([forget_source(address, replies=replies)])
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
