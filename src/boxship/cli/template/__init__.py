"""Go's text/template as far as ``--format`` needs it: parse, execute, and print values as Go's fmt does.

``lexer`` and ``parser`` turn text into nodes, ``execute`` walks them over data, ``functions`` are the names that templates
may call, ``printing`` is fmt. ``listing`` and ``objects`` are what commands call. Not here: define, template, block.
"""
