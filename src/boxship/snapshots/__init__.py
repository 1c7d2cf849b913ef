"""Root filesystems from layers: apply a layer tar, prepare a writable layer, write a layer tar (overlay2, vfs)."""
