"""The Dockerfile language (Docker's Dockerfile reference): text in, typed instructions out, and what they do to a configuration.

Owns lines, words, instructions and their effect on an image's configuration; ``commit --change`` and ``import --change`` use
the same. Does not own stages, the build graph or the linter (``build.dockerfile``).

Words: a *directive* is a comment at the top that changes how the file is read; a *heredoc* is text in the lines behind an
instruction; an instruction's arguments are in *exec form* when they are a JSON list of strings, in *shell form* otherwise.
"""
