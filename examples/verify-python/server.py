"""An API that accepts Handstamp's access tokens. It checks them offline and hears of revocations as they happen.

    python server.py --issuer http://127.0.0.1:8080 --audience http://127.0.0.1:8080 --listen 127.0.0.1:9092

GET /hello wants a valid token and answers its subject. GET /readyz tells whether tokens can be checked.
"""

import argparse
import json
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from bearer import bearer_token, refusal
from verifier import Verifier


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds, of a connection on which nothing comes
    server: "Server"

    def do_GET(self) -> None:
        try:
            match urlsplit(self.path).path:
                case "/hello":
                    self.hello()
                case "/readyz":
                    verifier = self.server.verifier
                    self.answer(200 if verifier.ready else 503, {"feed": verifier.feed.mode})
                case _:
                    self.answer(404, {"error": "not_found"})
        except Exception as error:
            status, code, description = answer = refusal(error)
            if status == 500:
                self.log_error("%r", error)
            self.answer(status, {"error": code, "error_description": description}, answer.headers)

    def hello(self) -> None:
        claims = self.server.verifier.verify(bearer_token(self.headers.get_all("Authorization", []), self.path))
        self.answer(200, {"subject": claims["sub"], "scope": claims.get("scope"), "roles": claims.get("roles")})

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        fixed = {"Content-Type": "application/json", "Content-Length": str(len(content)), "Cache-Control": "no-store"}
        for name, value in (fixed | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, verifier: Verifier) -> None:
        self.verifier = verifier
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)


def main() -> None:
    flags = argparse.ArgumentParser(description="An API that accepts Handstamp's access tokens")
    flags.add_argument("--issuer", default="http://127.0.0.1:8080", help="issuer of the access tokens")
    flags.add_argument("--audience", help="name of this API, as in the aud of its tokens (default: the issuer)")
    flags.add_argument("--listen", default="127.0.0.1:9092", help="address to listen on")
    flags.add_argument("--max-staleness", type=float, default=60, help="seconds for which the feed may be silent")
    flags.add_argument("--fail-closed", action="store_true", help="then answer 503, instead of going by the revocations known so far")
    args = flags.parse_args()

    verifier = Verifier(args.issuer, args.audience or args.issuer, args.max_staleness, args.fail_closed)
    host, _, port = args.listen.rpartition(":")
    server = Server(host.strip("[]"), int(port), verifier)
    print(f"listening on http://{host}:{server.server_port}", flush=True)
    verifier.start()

    def stop(*_: Any) -> None:
        verifier.close()
        threading.Thread(target=server.shutdown).start()  # it waits for serve_forever, which this thread is in

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()


if __name__ == "__main__":
    main()
