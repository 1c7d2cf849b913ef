"""What the engine tells about its containers, itself and the host: events, stats, processes, version and info.

Owns nothing that a container needs to run; only reads what the kernel and the engine's state say.
"""
