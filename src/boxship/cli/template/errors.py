"""What can be wrong with a template, in the words of Go's text/template."""


class ParseError(Exception):
    """The text is no template; the text starts with ``template: :LINE:``."""


class ExecError(Exception):
    """The template does not fit its data."""
