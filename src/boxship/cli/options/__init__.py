"""The hundred flags of ``run`` and ``create``, and how they become the document of ``POST /containers/create``.

``flags`` holds the rows, ``document`` puts the whole together; the other modules each read one small language:
ports, mounts, networks, devices, environment. None of them does I/O except for files that a flag names.
"""
