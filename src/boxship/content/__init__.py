"""Blobs by digest: ingest, verify, commit, leases, garbage collection."""
