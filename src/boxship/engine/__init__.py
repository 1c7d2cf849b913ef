"""Container lifecycle and the operations that join images, snapshots, networks, volumes and shims.

Owns the container's specification, observed status and desired state, exec, events, logs, stats and repair after a crash.
Reached by ``api`` through the Protocols of ``api.backend`` only.
"""
