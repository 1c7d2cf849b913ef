"""Images as archives: load, save, import, in the formats of Docker and OCI."""
