"""Leaf modules without domain knowledge: errors, ids, units, clock, atomic files, failpoints.

Imports nothing of Boxship. Everything in here is cheap to import: the launcher, the shims and the command line use it.
"""
