"""A registry: the distribution specification 1.1 over HTTP, with its own storage, access rules, garbage collection and pages.

Owns the process that ``boxship registry serve`` starts, its configuration (the reference registry's keys), the directory
that it keeps everything in, and the web pages that show it. Knows nothing of engines, images on a host or containers: it is
its own program, and a container may run it as well as a host.

Words: a *link* says that a repository has a blob, whose file is shared by all repositories; a manifest's *references* are
what it keeps alive; *touching* a link protects it while its manifest is still on the way; *grace* is for how long.
"""
