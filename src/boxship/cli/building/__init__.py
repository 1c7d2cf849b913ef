"""``build`` on this side of the API: which context is meant, how it is packed, what is shown meanwhile.

``context`` finds out what PATH, URL or ``-`` stand for, ``packing`` turns a directory into a tar stream, ``query`` turns flags
into the parameters of ``POST /build``. What a Dockerfile means is the engine's business.
"""
