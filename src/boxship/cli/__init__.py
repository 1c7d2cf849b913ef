"""The command line: one module per command, tables, templates, terminal handling. Talks to the engine over the API only."""
