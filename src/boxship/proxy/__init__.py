"""The proxy: the small process that carries what the firewall can't to published ports, and outlives boxshipd.

Owns the listening sockets of those ports, which boxshipd binds and hands over, and the connections that came through them. Has no
rights but those of a user that nobody is. What it is told: :mod:`boxship.proxy.control`; which ports need it:
``boxship.networks.publishing.relay``.
"""
