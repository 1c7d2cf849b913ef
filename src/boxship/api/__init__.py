"""The Engine REST API: one router per tag of Docker's API definition; version differences live here only.

A handler parses a model, calls one backend method, writes a model. The backends are the Protocols in ``api.backend``;
``daemon`` passes the real ones. Every route declares its permission.
"""
