"""The data root as a whole: what each byte in it is for, what of it is damaged or left over, and what may go.

Words: a *use* is a file or directory with the object that it belongs to; a *finding* is one thing that is wrong, with what
a repair would do.
"""
