"""Changes to containers that exist: limits, ports, mounts, environment, labels, without losing the writable layer."""
