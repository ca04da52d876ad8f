"""Requests to the issuer, by the standard library."""

import json
import urllib.request
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None  # an HTTPError with the 3xx status is raised instead


_opener = urllib.request.build_opener(_NoRedirect)


def open_url(address: str, headers: dict[str, str], timeout: float) -> HTTPResponse:
    """Opens an address. HTTPError for any status but 200; timeout (seconds) is that of each read."""
    return _opener.open(urllib.request.Request(address, headers=headers), timeout=timeout)


def trustworthy(address: str) -> bool:
    """Reports whether what is fetched from an address comes from who owns its name: by TLS, or because it is this machine."""
    url = urlsplit(address)
    host = url.hostname or ""
    loopback = host in ("localhost", "::1") or host.startswith("127.") and host.replace(".", "").isdigit()
    return url.scheme == "https" and host != "" or url.scheme == "http" and loopback


def discover(issuer: str) -> dict[str, Any]:
    """Fetches the issuer's metadata (RFC 8414): the well-known part goes between host and path."""
    url = urlsplit(issuer)
    address = f"{url.scheme}://{url.netloc}/.well-known/oauth-authorization-server{url.path.removesuffix('/')}"
    with open_url(address, {"Accept": "application/json"}, timeout=10) as response:
        metadata = json.load(response)
    if metadata.get("issuer") != issuer:
        raise ValueError(f"the metadata is that of {metadata.get('issuer')}")
    for name in ("jwks_uri", "handstamp_blocklist_endpoint", "handstamp_blocklist_stream_endpoint"):
        if not trustworthy(metadata.get(name, "")):
            raise ValueError(f"{name} is neither https nor loopback")
    return metadata
