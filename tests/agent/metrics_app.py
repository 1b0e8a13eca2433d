"""An app with a metrics page and a readiness page on port 9102 of all addresses, and gRPC's health service on 9104.

python metrics_app.py
"""

from __future__ import annotations

import http.server
import sys
from concurrent import futures

import grpc


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


def healthy() -> grpc.Server:
    """Says SERVING to whoever asks."""
    check = grpc.unary_unary_rpc_method_handler(lambda _, __: b"\x08\x01")
    found = grpc.server(futures.ThreadPoolExecutor(1))
    found.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),))
    found.add_insecure_port("0.0.0.0:9104")
    found.start()
    return found


if __name__ == "__main__":
    health = healthy()
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 9102), Handler)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve_forever()
