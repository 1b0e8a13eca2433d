"""An app with a metrics page and a readiness page on port 9102 of all addresses. Standard library only.

python metrics_app.py
"""

from __future__ import annotations

import http.server
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    """/m has metrics, /ready tells the caller's header, /slow never answers in time."""

    def do_GET(self) -> None:
        body = b"app_requests_total 7\n" if self.path == "/m" else self.headers.get("x-probe", "none").encode()
        self.send_response(200 if self.path in {"/m", "/ready"} else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 9102), Handler)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve_forever()
