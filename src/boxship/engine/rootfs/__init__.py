"""A container's files as operations on them see them: copy in and out, commit, export.

Everything here reaches a tree by descriptors from its root, in threads of its own: what a container put there is hostile
and may never answer.
"""
