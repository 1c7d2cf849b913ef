"""Builds: from a Dockerfile and a context to an image, or to files.

Owns the Dockerfile language (``dockerfile``), the graph that a Dockerfile is turned into and that another client may send
instead (``graph``, ``plan``), build contexts, the cache, the solver that carries a graph out, and what comes out. Does not own
how a step's program runs (a Protocol that the engine fulfils), nor how images are stored (``images``), nor the API's shapes.

Words: an *instruction* is a line of a Dockerfile; a *stage* begins with FROM; a *vertex* is one operation of the graph on
filesystems, without any idea of Dockerfiles; a *step* is an instruction as the user sees it run, with or without a vertex;
a *result* is the filesystem that a vertex gave: layers, bottom first.
"""
