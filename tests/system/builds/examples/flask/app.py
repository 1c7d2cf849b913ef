"""A page of Flask."""

import flask

app = flask.Flask(__name__)


@app.route("/")
def main() -> str:
    """Greet."""
    return "Welcome!\n"
