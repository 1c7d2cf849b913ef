"""The driver ``local``: its options, mounts and bounds."""
