"""Boxship: a container platform with the Docker Engine API, written in Python.

Nothing is imported here: the launcher and the command line start on a diet of modules.
"""

__version__ = "0.1.0"
