"""The OCI runtime: a ``config.json`` and a root filesystem in, a process out.

Owns namespaces, mounts inside the container, devices, cgroup membership, credentials, seccomp and exec into a running
container, and the command line ``boxship-runtime``. Does not own images, networks' addresses or stdio beyond passing the
descriptors on. Imports neither asyncio nor logging; documents are plain dictionaries in the OCI runtime-spec's words.
"""
