"""Documents of the Docker Engine API, version 1.56 (older versions are reshaped in ``api``).

Attributes are ``snake_case``, the JSON names are Docker's. A field that Docker sends as ``null`` when it is not set has
the default ``None`` here. Unknown fields are ignored, as the API definition asks of servers and clients.
"""
