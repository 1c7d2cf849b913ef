"""``boxship debug``: a shell with tools beside containers that have none, without changing them.

Owns the toolbox on disk and the throw-away containers; the process itself is an exec (``engine.processes``).
"""
