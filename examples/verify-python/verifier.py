"""Verifies access tokens: the signature and the claims with PyJWT, revocation with the feed."""

import math
import re
import sys
import threading
import time
from typing import Any

import jwt
from jwt.exceptions import PyJWKClientConnectionError, PyJWTError

from feed import Feed
from web import discover, trustworthy

ALGORITHMS = ("ES256", "EdDSA", "RS256")
MAX_TOKEN = 8 << 10
FUTURE = 30  # seconds that iat may be ahead: the clocks of issuer and resource server differ
RELOAD_KEYS = 300  # seconds; a retired key goes, should a stream of blocked ones be missed

_SPELLING = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_REQUIRED = ["iss", "aud", "exp", "iat", "sub", "jti", "client_id"]


class InvalidToken(Exception):
    """A token that is not accepted. It never will be."""

    def __init__(self, reason: str, expired: bool = False) -> None:
        super().__init__(reason)
        self.expired = expired


class Unavailable(Exception):
    """Says nothing about the token: the keys or the blocklist could not be had. Try again."""


class Keys:
    """The issuer's published keys. The last good ones stay while the issuer is down, and are replaced in the background."""

    def __init__(self, address: str) -> None:
        self._client = jwt.PyJWKClient(address, lifespan=math.inf, timeout=10)

    def reload(self) -> None:
        self._client.get_signing_keys(refresh=True)

    def key(self, kid: str) -> jwt.PyJWK:
        """Returns the key. An unknown kid is asked for, by one thread at a time and at most once in 30 seconds."""
        try:
            known = self._client.match_kid(self._client.get_signing_keys(), kid)  # without a lock, so that nobody waits who need not
        except (PyJWTError, ValueError) as error:
            raise Unavailable("no keys") from error
        if known:
            return known
        try:
            return self._client.get_signing_key(kid)
        except PyJWKClientConnectionError as error:
            raise Unavailable("no keys") from error
        except (PyJWTError, ValueError) as error:
            raise InvalidToken("unknown key") from error


class Verifier:
    def __init__(self, issuer: str, audience: str, max_staleness: float = 60.0, fail_closed: bool = False, keys: Keys | None = None) -> None:
        """The policy on silence: once the feed has been silent for max_staleness seconds, fail_closed answers Unavailable."""
        if not trustworthy(issuer):
            raise ValueError(f"issuer {issuer} must be https, or http on a loopback address")
        self.feed = Feed(issuer, max_staleness)
        self._issuer = issuer
        self._audience = audience
        self._fail_closed = fail_closed
        self._keys = keys
        self._stopping = threading.Event()

    def start(self) -> None:
        """Finds the issuer, which may be started later, and follows it until close."""
        threading.Thread(target=self._follow, daemon=True).start()

    def close(self) -> None:
        self._stopping.set()
        self.feed.close()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                metadata = discover(self._issuer)
                break
            except (OSError, ValueError) as error:
                print(f"cannot reach the issuer yet: {error}", file=sys.stderr)
                self._stopping.wait(1)
        else:
            return
        self._keys = Keys(metadata["jwks_uri"])
        self.feed.start(metadata["handstamp_blocklist_endpoint"], metadata["handstamp_blocklist_stream_endpoint"])
        while True:
            try:
                self._keys.reload()
            except (PyJWTError, ValueError) as error:
                print(f"cannot fetch the keys: {error}", file=sys.stderr)
            if self._stopping.wait(RELOAD_KEYS):
                return

    @property
    def ready(self) -> bool:
        """Tells whether tokens can be checked."""
        mode = self.feed.mode
        return self._keys is not None and mode != "loading" and not (mode == "silent" and self._fail_closed)

    def verify(self, raw: str) -> dict[str, Any]:
        """Returns the claims of a valid access token that was not revoked. Raises InvalidToken or Unavailable."""
        kid, claims = self.authenticate(raw)
        if not self.feed.loaded:  # an empty list is not the same as no revocations
            raise Unavailable("the blocklist is not loaded")
        if self.feed.blocks(kid, claims):
            raise InvalidToken("revoked")
        if not self.ready:
            raise Unavailable("the blocklist is stale")
        return claims

    def authenticate(self, raw: str) -> tuple[str, dict[str, Any]]:
        """Verifies all but revocation, and returns the kid and the claims."""
        kid = _check_header(raw)
        if self._keys is None:
            raise Unavailable("the keys are not loaded")
        key = self._keys.key(kid)
        if key.algorithm_name not in ALGORITHMS:
            raise InvalidToken("a key for something else")
        try:
            claims = jwt.decode(
                raw,
                key,
                algorithms=[key.algorithm_name],  # the key decides; a token has no say (RFC 8725, section 3.1)
                issuer=self._issuer,
                audience=self._audience,
                options={"require": _REQUIRED, "verify_iat": False},  # see _check_claims
            )
        except jwt.ExpiredSignatureError as error:
            raise InvalidToken("expired", expired=True) from error
        except (PyJWTError, ValueError, RecursionError) as error:
            raise InvalidToken(str(error)) from error
        _check_claims(claims)
        return kid, claims


def _check_header(raw: str) -> str:
    """Refuses what no access token looks like, before anything is asked of the issuer. Returns the kid."""
    if len(raw) > MAX_TOKEN or not _SPELLING.fullmatch(raw):
        raise InvalidToken("not a JWT")
    try:
        header = jwt.get_unverified_header(raw)
    except (PyJWTError, ValueError, RecursionError) as error:
        raise InvalidToken("malformed header") from error
    # Exactly these: nothing in a token names a key's whereabouts, and there is no crit to understand. The typ says that it is not
    # an ID token or whatever else the issuer signs (RFC 9068, section 2.1).
    if header.keys() != {"alg", "kid", "typ"} or header["typ"] != "at+jwt" or not isinstance(header["kid"], str):
        raise InvalidToken("not the header of an access token")
    return header["kid"]


def _check_claims(claims: dict[str, Any]) -> None:
    """Checks the types of what the blocklist goes by: a claim that it cannot look up could not be revoked."""
    for name in ("sub", "jti", "client_id", *(["sid"] if "sid" in claims else [])):
        if not isinstance(claims[name], str) or not claims[name]:
            raise InvalidToken(f"malformed {name}")
    for name in ("iat", "exp", *(["nbf"] if "nbf" in claims else [])):
        if type(claims[name]) is not int or not 0 < claims[name] < 2**53:  # a bool is an int, too
            raise InvalidToken(f"malformed {name}")
    if claims["iat"] > time.time() + FUTURE:
        raise InvalidToken("minted in the future")
