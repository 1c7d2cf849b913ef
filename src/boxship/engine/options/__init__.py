"""From what a client asked for to what the runtime is told: checks, defaults, limits, devices, mounts, the OCI document."""
