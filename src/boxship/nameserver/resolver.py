"""What a query gets: a name of the sandbox's networks, a reply kept from before, or what other servers say."""

from __future__ import annotations

from boxship.nameserver.cache import Cache
from boxship.wire import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxship.nameserver.forward import Forwarder
    from boxship.nameserver.sandbox import Sandbox
    from boxship.nameserver.table import Table

TTL = 600  # seconds, as Docker says
LOOKUPS = 1024  # of one sandbox on their way at a time; Docker's number
_LONGEST_QUERY = 4096
_TRANSFERS = frozenset((dns.AXFR, dns.IXFR))


class Resolver:
    """Answers queries; ``host`` names the scope of replies that came from the host's own servers."""

    def __init__(self, names: Table, forwarder: Forwarder) -> None:
        self._names = names
        self._forwarder = forwarder
        self._cache = Cache()
        self.queries = 0

    @property
    def kept(self) -> int:
        """How many replies are kept."""
        return len(self._cache)

    def serve(self, sandbox: Sandbox, data: bytes, send: Callable[[bytes], None], *, stream: bool) -> None:
        """Answer the message ``data`` that came from a sandbox over TCP (``stream``) or UDP, at once or later, or never."""
        self.queries += 1
        try:
            if len(data) > _LONGEST_QUERY:
                raise dns.FormatError("too long for a query")
            query = dns.Query(data)
        except dns.FormatError:
            refusal = dns.refusal(data, dns.FORMERR)
            if refusal is not None:
                send(refusal)
            return
        limit = dns.LIMIT if stream else query.limit
        answer = self._own_answer(sandbox, query, limit)
        if answer is not None:
            send(answer)
            return
        scope = _scope(sandbox)
        kept = self._cache.get(scope, query, limit)
        if kept is not None:
            send(kept)
            return
        self._forward(sandbox, query, scope, send, stream=stream)

    def forget(self, sandbox: Sandbox) -> None:
        """Drop what was kept for a sandbox."""
        self._cache.forget(sandbox.id)

    def _own_answer(self, sandbox: Sandbox, query: dns.Query, limit: int) -> bytes | None:
        """Return what we answer without asking anybody, None if somebody else has to know."""
        if query.opcode:
            return dns.answer(query, dns.NOTIMP)
        if query.edns_version:
            return dns.answer(query, dns.BADVERS)
        if query.type in _TRANSFERS:
            return dns.answer(query, dns.REFUSED)
        if query.class_ == dns.IN:
            records = self._records(sandbox, query)
            if records is not None:
                return dns.answer(query, dns.NOERROR, records, limit=limit)
        if not sandbox.forward or not sandbox.servers:
            return dns.answer(query, dns.SERVFAIL)
        if query.type in (dns.A, dns.AAAA) and not sandbox.single_labels and "." not in query.name:
            return dns.answer(query, dns.NXDOMAIN)
        if sandbox.lookups >= LOOKUPS:
            return dns.answer(query, dns.REFUSED)
        return None

    def _records(self, sandbox: Sandbox, query: dns.Query) -> list[dns.Record] | None:
        addresses = self._names.find(query.name, sandbox.network_ids, sandbox.links)
        if addresses is not None:
            return [
                dns.Record(dns.A if len(each) == 4 else dns.AAAA, each, TTL) for each in addresses.shuffled(query.type)
            ]
        if query.type == dns.PTR:
            names = self._names.find_address(query.name, sandbox.network_ids)
            if names is not None:
                return [dns.Record(dns.PTR, dns.write_name(name), TTL) for name in names]
        return None

    def _forward(
        self, sandbox: Sandbox, query: dns.Query, scope: str, send: Callable[[bytes], None], *, stream: bool
    ) -> None:
        sandbox.lookups += 1

        def answered(reply: bytes | None) -> None:
            sandbox.lookups -= 1
            if not sandbox.open:
                return
            if reply is None:
                send(dns.answer(query, dns.SERVFAIL))
                return
            self._cache.keep(scope, query, reply)
            send(dns.for_client(query, reply))

        self._forwarder.ask(query, sandbox.servers, stream=stream, answered=answered)


def _scope(sandbox: Sandbox) -> str:
    """Return who else may see a reply to this sandbox: those that have the same servers on the host asked, or nobody.

    What is asked from a sandbox's own namespace is at the mercy of whoever rules there.
    """
    if all(server.vantage is not sandbox.vantage for server in sandbox.servers):
        return " ".join(f"{server.address}:{server.port}" for server in sandbox.servers)
    return sandbox.id
