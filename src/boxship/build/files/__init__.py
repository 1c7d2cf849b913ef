"""File trees that a build copies from: an archive that a client sent, or a directory of ours.

Words: a *node* is one file of a tree, with everything that a copy keeps; a path is relative to the tree's root, without a
slash in front, "" for the root itself. Symbolic links are followed inside the tree only.
"""

from boxship.build.files.archive import Archive
from boxship.build.files.directory import Directory
from boxship.build.files.node import Kind, Node, Tree

__all__ = ["Archive", "Directory", "Kind", "Node", "Tree"]
