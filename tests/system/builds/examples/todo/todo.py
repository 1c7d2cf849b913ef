"""A page that listens where ASPNETCORE_URLS says: on all addresses for ``+``."""

import http.server
import os
import signal
import sys
import urllib.parse

LISTEN = urllib.parse.urlsplit(os.environ.get("ASPNETCORE_URLS", "http://127.0.0.1:5000"))


class Page(http.server.BaseHTTPRequestHandler):
    """Answers everything."""

    def do_GET(self) -> None:
        """Answer with the list of things to do."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"nothing to do\n")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
host, _, port = LISTEN.netloc.rpartition(":")
http.server.HTTPServer(("" if host == "+" else host, int(port)), Page).serve_forever()
