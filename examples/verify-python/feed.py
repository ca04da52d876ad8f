"""Follows the issuer's revocation feed: the stream while it can be had, polling while not."""

import json
import random
import threading
import time
from datetime import datetime
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

from blocklist import Blocklist, unpack
from sse import Event, events
from web import open_url

POLL_EVERY = 1.0  # seconds, as are all times here
SILENCE = 15.0  # three heartbeats; after that the stream is given up
SLOWEST = 15.0  # between attempts that fail
CLOCKS = 30.0  # how far the issuer's clock and ours may differ
PURGE_MARGIN = 600.0  # beyond drop_after, for clocks that are set


class Reset(Exception):
    """The issuer no longer knows our cursor."""


class Feed:
    """Two threads work at it, and may merge the same entries; that changes nothing."""

    def __init__(self, issuer: str, max_staleness: float = 60.0) -> None:
        self.blocklist = Blocklist()
        self.cursor = ""  # where we are in the feed; empty until there is a snapshot, and when the issuer has forgotten it
        self.loaded = False  # there was a snapshot
        self.retry = 1.0  # before the stream is tried again
        self.as_of = 0.0  # the issuer's last word on how much it knew, by its clock
        self._issuer = issuer
        self._max_staleness = max_staleness
        self._live = False  # the stream speaks
        self._fresh = 0.0  # every revocation before this instant of our clock is known
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    @property
    def mode(self) -> str:
        """'loading' until there is a snapshot, 'silent' when what is known is older than max_staleness, else 'stream' or 'polling'."""
        with self._lock:
            if not self.loaded:
                return "loading"
            # The wall clock, not a monotonic one: it goes on while the machine sleeps.
            if time.time() - self._fresh > self._max_staleness:
                return "silent"
            return "stream" if self._live else "polling"

    def blocks(self, kid: str, claims: dict[str, Any]) -> bool:
        """Reports whether a known entry refuses a verified token."""
        with self._lock:
            return self.blocklist.blocks(kid, claims)

    def start(self, poll_address: str, stream_address: str) -> None:
        """Follows the feed at the addresses until close."""
        threading.Thread(target=self._listen, args=(poll_address, stream_address), daemon=True).start()
        threading.Thread(target=self._poll_while_deaf, args=(poll_address,), daemon=True).start()

    def close(self) -> None:
        self._stopping.set()

    def take(self, document: dict[str, Any], now: float | None = None) -> None:
        """Merges a feed document that was complete at the instant now: a snapshot, or what changed since the cursor."""
        if document.get("iss") != self._issuer:
            raise ValueError(f"feed of another issuer: {document.get('iss')}")
        cursor = document.get("cursor")
        if not isinstance(cursor, str) or not cursor:
            raise ValueError("feed without a cursor")
        as_of = _time(document["as_of"])
        entries = unpack(document["entries"])
        with self._lock:
            self.blocklist.merge(entries)
            self.cursor = cursor  # only now, so that nothing is passed over
            self.loaded = True
            self._credit(as_of, time.time() if now is None else now)

    def event(self, event: Event) -> None:
        """Takes over one event of the stream."""
        if event.retry:
            self.retry = min(max(event.retry / 1000, 0.1), 60.0)
        if event.name == "entries":
            self.take(json.loads(event.data or ""))
        elif event.name == "heartbeat":
            as_of = _time(json.loads(event.data or "")["as_of"])
            with self._lock:
                self._credit(as_of, time.time())
                if event.id and self.cursor:
                    self.cursor = event.id
        elif event.name == "reset":
            self._forget()
            raise Reset
        # events of other names are for later versions

    def _forget(self) -> None:
        with self._lock:
            self.cursor = ""

    def _credit(self, as_of: float, now: float) -> None:
        """Notes that the issuer said, at the instant now of our clock, that it had looked at as_of of its own. Saying the same again
        shows that it has not looked since (a cache may have answered), and what was long on the way counts from when it was said.
        """
        if as_of == self.as_of:
            return
        self.as_of = as_of
        late = now - as_of if now - as_of > CLOCKS else 0.0
        self._fresh = max(self._fresh, now - late)

    def poll(self, address: str) -> None:
        """Fetches a snapshot, or with a cursor what changed since."""
        with self._lock:
            cursor = self.cursor
        headers = {"Accept": "application/json"}
        if cursor:
            headers["If-None-Match"] = f'"{cursor}"'
        sent = time.time()
        query = "?" + urlencode({"after": cursor}) if cursor else ""
        try:
            with open_url(address + query, headers, timeout=10) as response:
                self.take(json.load(response), sent - _age(response.headers))
        except HTTPError as error:
            error.close()
            if not cursor or error.code not in (304, 410):
                raise
            if error.code == 304:
                with self._lock:
                    self._fresh = max(self._fresh, sent - _age(error.headers))
            else:
                self._forget()
                self.poll(address)

    def _stream(self, address: str) -> None:
        """Connects to the stream and takes what comes, until it ends or falls silent."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": self.cursor}
        try:
            with open_url(address, headers, timeout=SILENCE) as response:
                if response.headers.get_content_type() != "text/event-stream":
                    raise ValueError(f"{address} is not a stream of events")
                for event in events(response):
                    self.event(event)
                    self._live = True  # nothing on the way holds events back
                    if self._stopping.is_set():
                        return
        except HTTPError as error:
            error.close()
            if error.code == 410:
                self.event(Event("reset"))
            raise
        finally:
            self._live = False

    def _listen(self, poll_address: str, stream_address: str) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                if not self.cursor:
                    self.poll(poll_address)
                self._stream(stream_address)
                failures = 0
            except Reset:
                failures = 0
            except Exception:  # whatever an issuer can send must not end the thread; mode tells, once it has lasted for too long
                failures += 1
            self._pause(self.retry, failures)

    def _poll_while_deaf(self, address: str) -> None:
        failures = 0
        while not self._pause(POLL_EVERY, failures):
            try:
                if not self._live:
                    self.poll(address)
                failures = 0
            except Exception:  # as above
                failures += 1
            with self._lock:
                # Both by our clock, which decides when a token has expired, and by the issuer's: setting one forward brings no
                # token back.
                self.blocklist.purge(min(time.time(), self.as_of) - PURGE_MARGIN)

    def _pause(self, seconds: float, failures: int) -> bool:
        """Waits for a random part of the time, so that followers do not move in step, and longer with each failure."""
        longest = min(seconds * 2 ** min(failures, 10), max(SLOWEST, seconds))
        return self._stopping.wait(longest * random.uniform(0.5, 1))


def _time(text: str) -> float:
    """Returns the Unix time of an RFC 3339 time."""
    t = datetime.fromisoformat(text)
    if t.tzinfo is None:
        raise ValueError("as_of without a time zone")
    return t.timestamp()


def _age(headers: Any) -> float:
    """Returns how long a cache on the way has held an answer (RFC 9111, section 5.1)."""
    age = headers.get("Age", "")
    return float(age) if age.isdigit() else 0.0
