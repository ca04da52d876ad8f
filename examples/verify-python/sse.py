"""Server-sent events (HTML Living Standard, section 9.2.6), as far as the feed uses them: lines end in LF or CRLF."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_EVENT = 16 << 20  # bytes; what is longer comes by polling


@dataclass
class Event:
    name: str = ""
    id: str = ""
    data: str | None = None
    retry: int | None = None  # milliseconds


def events(stream: BinaryIO) -> Iterator[Event]:
    """Yields the events in a stream. What is incomplete when the stream ends is dropped."""
    event, size = Event(), 0
    while line := stream.readline(MAX_EVENT + 1):
        size += len(line)
        if size > MAX_EVENT:
            raise ValueError("event too long")
        if not line.endswith(b"\n"):
            return
        field, _, value = line[:-1].removesuffix(b"\r").decode().partition(":")
        value = value.removeprefix(" ")
        if line in (b"\n", b"\r\n"):
            if event.name or event.retry:
                yield event
            event, size = Event(), 0
        elif field == "event":
            event.name = value
        elif field == "id":
            event.id = value
        elif field == "data":
            event.data = value if event.data is None else f"{event.data}\n{value}"
        elif field == "retry" and value.isascii() and value.isdigit() and len(value) < 10:
            event.retry = int(value)
        # else a comment, whose field has no name, or a field of later versions
