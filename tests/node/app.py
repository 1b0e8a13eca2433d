"""A tiny HTTP server and client for pods of tests: `app.py serve NAME PORT` or `app.py get URL`."""

from __future__ import annotations

import http.server
import os
import signal
import sys
import threading
import urllib.request
from pathlib import Path

READY = Path("/tmp/ready")  # noqa: S108 (the container's own /tmp)


class Handler(http.server.BaseHTTPRequestHandler):
    """GET /NAME of an environment variable, /unready, /ready, /health, /crash, or anything else: who am I."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        status, body = 200, f"{sys.argv[2]} {os.environ.get('HOSTNAME', '')} from {self.client_address[0]}\n"
        if self.path == "/ready" and READY.with_name("unready").exists():
            status = 503
        elif self.path == "/make-unready":
            READY.with_name("unready").touch()
        elif self.path == "/make-ready":
            READY.with_name("unready").unlink()
        elif self.path == "/crash":
            os._exit(3)
        elif self.path.startswith("/env/"):
            body = os.environ.get(self.path[5:], "")
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(port: int) -> None:
    """Serve until SIGTERM."""
    server = http.server.ThreadingHTTPServer(("", port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    sys.stdout.write(f"serving on {port}\n")
    server.serve_forever()
    sys.stdout.write("ended\n")


def get(url: str) -> int:
    """Print what a URL answers."""
    with urllib.request.urlopen(url, timeout=3) as response:  # noqa: S310 (a test's own URL)
        sys.stdout.write(response.read().decode())
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[3]))
    else:
        sys.exit(get(sys.argv[2]))
