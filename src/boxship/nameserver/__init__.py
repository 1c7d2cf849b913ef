"""The nameserver: the small process that answers at 127.0.0.11 inside sandboxes, and outlives boxshipd.

Owns two sockets and one nftables table in each sandbox, and what it keeps of the answers of other servers. Knows nothing but
what boxshipd says over the control socket (:mod:`boxship.nameserver.control`); ``boxship.networks.names`` has the words.

One thread serves all sockets; a second one enters namespaces to make them (:mod:`boxship.nameserver.sandbox`).
"""
