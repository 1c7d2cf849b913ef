"""The commands of ``boxship-runtime``: an OCI runtime's command line on top of :mod:`boxship.runtime.launch`.

Words: a *bundle* is a directory with ``config.json`` and a root filesystem; the *state directory* of a container,
``<root>/<id>``, is what one call leaves for the next.
"""
