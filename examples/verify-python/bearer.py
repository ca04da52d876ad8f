"""Bearer tokens in HTTP: where a token is found, and how a request without a good one is answered (RFC 6750)."""

import re
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from verifier import InvalidToken, Unavailable

_SCHEME = re.compile(r"bearer(?![^ \t,])", re.IGNORECASE)
_CREDENTIAL = re.compile(r"bearer +([A-Za-z0-9\-._~+/]+=*)", re.IGNORECASE)


class NoToken(Exception):
    """A request without a bearer token."""


class MalformedRequest(Exception):
    """A request with a token that cannot be read, or with two."""


def bearer_token(headers: list[str], path: str) -> str:
    """Returns the token in the Authorization headers of a request for path. It is never taken from the query, where logs and
    histories keep it, nor from the body (RFC 9700, section 4.3.2).
    """
    if len(headers) > 1:
        raise MalformedRequest
    if not headers or not _SCHEME.match(headers[0]):
        raise NoToken
    match = _CREDENTIAL.fullmatch(headers[0])
    if not match or "access_token" in parse_qs(urlsplit(path).query, keep_blank_values=True):
        raise MalformedRequest
    return match[1]


class Refusal(NamedTuple):
    """How to answer a request that may not pass."""

    status: int
    code: str
    description: str

    @property
    def headers(self) -> dict[str, str]:
        if self.status == 503:
            return {"Retry-After": "1"}
        if self.status >= 500:
            return {}
        # Who did not know that a token is needed did nothing wrong, and is not given an error code (RFC 6750, section 3.1).
        if self.code == "unauthorized":
            return {"WWW-Authenticate": "Bearer"}
        return {"WWW-Authenticate": f'Bearer error="{self.code}", error_description="{self.description}"'}


def refusal(error: Exception) -> Refusal:
    """Returns how to answer a request that failed with error."""
    match error:
        case NoToken():
            return Refusal(401, "unauthorized", "An access token is required")
        case MalformedRequest():
            return Refusal(400, "invalid_request", "One bearer token must be in one Authorization header")
        # Which check failed is for the log: a client learns only that a token has expired.
        case InvalidToken(expired=True):
            return Refusal(401, "invalid_token", "The access token expired")
        case InvalidToken():
            return Refusal(401, "invalid_token", "The access token is not valid")
        case Unavailable():
            return Refusal(503, "temporarily_unavailable", "The access token cannot be checked now")
    return Refusal(500, "server_error", "Internal server error")
