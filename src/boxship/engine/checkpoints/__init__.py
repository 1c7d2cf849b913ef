"""Checkpoints: processes of a container saved to its directory or to one that the user names, and a start from them.

The work is CRIU's, run by the container's shim (:mod:`boxship.shim.checkpoints`); here are names, directories and refusals.
"""
