"""Base images without a registry: root filesystems from a distribution's package archive."""
