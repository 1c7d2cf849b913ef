"""Typed documents of published formats: parse, check, serialise; no I/O.

Owns the Docker Engine API's documents (``spec.docker``), those of Boxship's own calls (``spec.boxship``), the OCI image documents (``spec.oci``) and their field names.
Does not own behaviour: nothing here opens a file or decides a default that depends on the host.
"""
