"""The server as started from the command line, against a small issuer whose every answer a test decides."""

import base64
import contextlib
import http.client
import json
import struct
import subprocess
import sys
import threading
import time
import unittest
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from blocklist import key_of

NEVER = 2**32 - 1
MAKERS = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


class Issuer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, alg: str = "ES256") -> None:
        self.alg, self.key = alg, MAKERS[alg]()
        self.history = 1  # raised when cursors are forgotten
        self.up = True
        self.streamed = True  # whether the stream can be had
        self.requests: list[tuple[str, str | None]] = []  # what was asked of the feed: path and cursor
        self.entries: list[bytes] = []
        self.changed = threading.Condition()
        super().__init__(("127.0.0.1", 0), IssuerHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def mint(self, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        """Mints a token, with changes to its header and claims; None removes one."""
        now = int(time.time())
        payload = {
            "iss": self.url, "aud": "api", "sub": "usr_1", "jti": "jti_1", "sid": "ses_1", "client_id": "default", "scope": "read",
            "roles": ["editor"], "iat": now, "exp": now + 900,
        } | claims  # fmt: skip
        payload = {name: value for name, value in payload.items() if value is not None}
        # Not jwt.encode, which looks after the types of the claims.
        text = json.dumps(payload).encode()
        return jwt.PyJWS().encode(text, key or self.key, self.alg, {"kid": "key-1", "typ": "at+jwt"} | (header or {}))

    def block(self, kind: str, value: str) -> None:
        """Revokes, and tells those who follow the stream."""
        with self.changed:
            self.entries.append(key_of(kind, value) + struct.pack(">II", NEVER, NEVER))
            self.changed.notify_all()

    def change(self, **attributes: Any) -> None:
        """Sets attributes, and lets the streams see them."""
        with self.changed:
            for name, value in attributes.items():
                setattr(self, name, value)
            self.changed.notify_all()

    def asked(self, path: str, *cursors: str | None) -> bool:
        return any(p == path and (not cursors or c in cursors) for p, c in self.requests)

    def document(self, position: int = 0) -> dict[str, Any]:
        return {
            "iss": self.url,
            "cursor": f"{self.history}-{len(self.entries)}",
            "as_of": datetime.now(timezone.utc).isoformat(),
            "entries": base64.b64encode(b"".join(self.entries[position:])).decode(),
        }


class IssuerHandler(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        issuer, url = self.server, urlsplit(self.path)
        if not issuer.up:
            return self.answer(503)
        match url.path:
            case "/.well-known/oauth-authorization-server":
                return self.answer(200, {
                    "issuer": issuer.url,
                    "jwks_uri": f"{issuer.url}/jwks",
                    "handstamp_blocklist_endpoint": f"{issuer.url}/blocklist",
                    "handstamp_blocklist_stream_endpoint": f"{issuer.url}/stream",
                })  # fmt: skip
            case "/jwks":
                algorithm = jwt.get_algorithm_by_name(issuer.alg)
                public = algorithm.to_jwk(issuer.key.public_key(), as_dict=True)
                return self.answer(200, {"keys": [public | {"kid": "key-1", "alg": issuer.alg, "use": "sig"}]})
        cursor = self.headers.get("Last-Event-ID") or parse_qs(url.query).get("after", [None])[0]
        issuer.requests.append((url.path, cursor))
        history, position = map(int, cursor.split("-")) if cursor else (0, 0)
        if url.path == "/stream":
            return self.stream(history, position)
        if not cursor:
            return self.answer(200, issuer.document())
        if history != issuer.history:
            return self.answer(410)
        document = issuer.document(position)
        if self.headers["If-None-Match"] == f'"{document["cursor"]}"':
            return self.answer(304)
        return self.answer(200, document)

    def answer(self, status: int, body: Any = None) -> None:
        self.send_response(status)
        if body is not None:
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        if body is not None:
            self.wfile.write(json.dumps(body).encode())

    def stream(self, history: int, position: int) -> None:
        issuer = self.server
        if not issuer.streamed:
            return self.answer(502)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"retry: 100\n\n")
        with issuer.changed, contextlib.suppress(OSError):
            while issuer.streamed and issuer.up:
                if history != issuer.history:
                    self.wfile.write(b"event: reset\ndata: {}\n\n")
                    return
                document = issuer.document(position)
                self.wfile.write(f"event: entries\nid: {document['cursor']}\ndata: {json.dumps(document)}\n\n".encode())
                position = len(issuer.entries)
                issuer.changed.wait()

    def log_message(self, *args: Any) -> None:
        pass


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.challenge = response.headers.get("WWW-Authenticate")
        self.body = json.loads(response.read())


class ServerTest(unittest.TestCase):
    def begin(self, *flags: str, alg: str = "ES256", up: bool = True) -> Issuer:
        """Starts issuer and server."""
        issuer = Issuer(alg)
        issuer.up = up
        self.addCleanup(issuer.server_close)
        self.addCleanup(issuer.shutdown)
        command = [sys.executable, "server.py", "--issuer", issuer.url, "--audience", "api", "--listen", "127.0.0.1:0", *flags]
        server = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        self.address = server.stdout.readline().strip().removeprefix("listening on http://")
        if up:
            self.until(lambda: self.get("/readyz").body["feed"] == "stream")
        return issuer

    def get(self, path: str, *authorization: str) -> Answer:
        with contextlib.closing(http.client.HTTPConnection(self.address, timeout=10)) as connection:
            connection.putrequest("GET", path)
            for value in authorization:
                connection.putheader("Authorization", value)
            connection.endheaders()
            return Answer(connection.getresponse())

    def hello(self, token: str) -> Answer:
        return self.get("/hello", f"Bearer {token}")

    def until(self, condition: Any) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            self.assertLess(time.monotonic(), deadline, "it did not happen")
            time.sleep(0.01)

    def test_ok_algorithms(self) -> None:
        for alg in MAKERS:
            with self.subTest(alg):
                issuer = self.begin(alg=alg)
                answer = self.hello(issuer.mint())
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.body, {"subject": "usr_1", "scope": "read", "roles": ["editor"]})

    def test_fail_no_valid_access_token(self) -> None:
        issuer = self.begin()
        now = int(time.time())
        good = issuer.mint()
        header, payload, signature = good.split(".")
        none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"key-1","typ":"at+jwt"}').decode().rstrip("=")
        other = base64.urlsafe_b64encode(b'{"sub":"usr_2"}').decode().rstrip("=")
        refused = {
            "another issuer": issuer.mint(iss="https://issuer.example"),
            "another audience": issuer.mint(aud="other"),
            "an ID token": issuer.mint({"typ": "JWT"}),
            "another key": issuer.mint(key=MAKERS["ES256"]()),
            "an unknown kid": issuer.mint({"kid": "key-2"}),
            "a header too many": issuer.mint({"jku": "https://evil.example/jwks"}),
            "no sub": issuer.mint(sub=None),
            "no jti": issuer.mint(jti=None),
            "a sid that is no string": issuer.mint(sid=7),
            "an iat that is no integer": issuer.mint(iat=True),
            "from the future": issuer.mint(iat=now + 300),
            "not valid yet": issuer.mint(nbf=now + 300),
            "unsigned": f"{none}.{payload}.",
            "no signature": f"{header}.{payload}.",
            "another payload": f"{header}.{other}.{signature}",
            "too long": issuer.mint(pad="x" * (8 << 10)),
            "garbage": "garbage",
        }
        for what, token in refused.items():
            with self.subTest(what):
                answer = self.hello(token)
                self.assertEqual(answer.status, 401)
                self.assertEqual(answer.challenge, 'Bearer error="invalid_token", error_description="The access token is not valid"')
        answer = self.hello(issuer.mint(exp=now))
        self.assertEqual(answer.status, 401)
        self.assertEqual(answer.challenge, 'Bearer error="invalid_token", error_description="The access token expired"')
        self.assertEqual(self.hello(good).status, 200)

    def test_fail_where_no_token_may_be(self) -> None:
        token = self.begin().mint()
        bearer, invalid = f"Bearer {token}", 'Bearer error="invalid_request"'
        for what, path, authorization, status, challenge in [
            ("no token", "/hello", [], 401, "Bearer"),
            ("another scheme", "/hello", ["Basic eDp5"], 401, "Bearer"),
            ("a scheme that begins like it", "/hello", [f"Bearerx {token}"], 401, "Bearer"),
            ("only in the query", f"/hello?access_token={token}", [], 401, "Bearer"),
            ("in the query as well", f"/hello?access_token={token}", [bearer], 400, invalid),
            ("no credential", "/hello", ["Bearer"], 400, invalid),
            ("two in one", "/hello", [f"{bearer}, {bearer}"], 400, invalid),
            ("two headers", "/hello", [bearer, bearer], 400, invalid),
        ]:
            with self.subTest(what):
                answer = self.get(path, *authorization)
                self.assertEqual(answer.status, status)
                self.assertEqual(answer.challenge.partition(", error_description=")[0], challenge)
        self.assertEqual(self.get("/hello", f"bearer {token}").status, 200)

    def test_fail_revoked(self) -> None:
        for kind, value in [("jti", "jti_1"), ("sid", "ses_1"), ("client_id", "default"), ("kid", "key-1")]:
            with self.subTest(kind):
                issuer = self.begin()
                token, other = issuer.mint(), issuer.mint(jti="jti_2", sid="ses_2", client_id="other")
                self.assertEqual(self.hello(token).status, 200)
                issuer.block(kind, value)
                self.until(lambda: self.hello(token).status == 401)
                self.assertEqual(self.hello(other).status, 401 if kind == "kid" else 200)

    def test_ok_the_stream_resumes_where_it_was(self) -> None:
        issuer = self.begin()
        token = issuer.mint()
        issuer.block("jti", "jti_1")
        self.until(lambda: self.hello(token).status == 401)
        issuer.change(streamed=False)
        self.until(lambda: issuer.asked("/blocklist", "1-1"))
        issuer.change(streamed=True)
        self.until(lambda: self.get("/readyz").body["feed"] == "stream")
        self.assertTrue(issuer.asked("/stream", "1-1"))

    def test_ok_without_the_stream_it_polls(self) -> None:
        issuer = self.begin()
        token = issuer.mint()
        issuer.change(streamed=False)
        issuer.block("jti", "jti_1")
        self.until(lambda: self.hello(token).status == 401)
        self.assertTrue(issuer.asked("/blocklist", "1-0"))

    def test_ok_after_a_reset_or_a_410_it_takes_a_snapshot(self) -> None:
        for how, streamed in [("reset", True), ("410", False)]:
            with self.subTest(how):
                issuer = self.begin()
                token = issuer.mint()
                issuer.requests.clear()
                issuer.change(history=2, streamed=streamed, entries=[key_of("jti", "jti_1") + struct.pack(">II", NEVER, NEVER)])
                self.until(lambda: self.hello(token).status == 401)
                self.assertTrue(issuer.asked("/blocklist", None))

    def test_ok_it_may_be_started_before_the_issuer(self) -> None:
        issuer = self.begin(up=False)
        self.assertEqual(self.get("/readyz").status, 503)
        token = issuer.mint()
        self.assertEqual(self.hello(token).status, 503)
        issuer.up = True
        self.until(lambda: self.hello(token).status == 200)

    def test_ok_silence(self) -> None:
        for policy, flags, status in [("open", [], 200), ("closed", ["--fail-closed"], 503)]:
            with self.subTest(policy):
                issuer = self.begin("--max-staleness", "1", *flags)
                token, blocked = issuer.mint(), issuer.mint(jti="jti_blocked")
                issuer.block("jti", "jti_blocked")
                self.until(lambda: self.hello(blocked).status == 401)
                issuer.change(up=False)
                self.until(lambda: self.get("/readyz").body["feed"] == "silent")
                self.assertEqual(self.hello(token).status, status)
                self.assertEqual(self.get("/readyz").status, status)
                self.assertEqual(self.hello(blocked).status, 401)


if __name__ == "__main__":
    unittest.main()
