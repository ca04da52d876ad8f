"""The blocklist: which tokens are refused although they have not expired."""

import base64
import hashlib
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

_RECORD = struct.Struct(">16sII")  # key | not_before | drop_after


class Entry(NamedTuple):
    """Refuses the tokens that match key and were minted (iat) at or before not_before. Times are Unix seconds."""

    key: bytes
    not_before: int
    drop_after: int


def key_of(kind: str, value: str) -> bytes:
    """Returns the key of an entry: the first 16 bytes of SHA-256(kind || 0x00 || value)."""
    return hashlib.sha256(f"{kind}\0{value}".encode()).digest()[:16]


def unpack(text: str) -> list[Entry]:
    """Returns the entries in a feed document's base64. ValueError for text that is cut short or not strictly base64."""
    packed = base64.b64decode(text, validate=True)
    if len(packed) % _RECORD.size:
        raise ValueError("malformed blocklist entries")
    return [Entry(*record) for record in _RECORD.iter_unpack(packed)]


class Blocklist:
    """Is not locked: who shares one between threads holds a lock of their own."""

    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def merge(self, entries: Iterable[Entry]) -> None:
        """Adds entries. The feed may repeat one: of each value the larger holds, so the order does not matter."""
        for key, not_before, drop_after in entries:
            nb, da = self._entries.get(key, (0, 0))
            self._entries[key] = max(nb, not_before), max(da, drop_after)

    def blocks(self, kid: str, claims: dict[str, Any]) -> bool:
        """Reports whether a verified token is refused: an entry for its jti, sid, client_id or kid is no older than its iat."""
        values = {"kid": kid} | {name: claims.get(name) for name in ("jti", "sid", "client_id")}
        entries = (self._entries.get(key_of(kind, value)) for kind, value in values.items() if value)
        return any(claims["iat"] <= entry[0] for entry in entries if entry)

    def purge(self, t: float) -> None:
        """Drops the entries whose time ended before t: every token that they could refuse has expired."""
        for key in [key for key, (_, drop_after) in self._entries.items() if drop_after < t]:
            del self._entries[key]

    def entries(self) -> set[Entry]:
        """Returns all entries."""
        return {Entry(key, *times) for key, times in self._entries.items()}
