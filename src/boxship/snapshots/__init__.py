"""Root filesystems from layers: apply a layer tar, prepare a writable layer, write a layer tar (overlay2, vfs).

Owns the snapshot directories below the data root, the store's ``snapshot`` rows, and all reading and writing of tar
archives. Mounts nothing that others see: the shim mounts what ``rootfs`` describes. Knows nothing of images and
containers beyond the names they give to snapshots. ``snapshotter`` has the words and the contract.
"""
