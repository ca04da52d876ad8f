"""The vectors that every follower of the feed shares."""

import base64
import io
import json
import unittest
from datetime import datetime
from pathlib import Path

from blocklist import Blocklist, Entry, key_of, unpack
from feed import Feed, Reset
from sse import events

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "blocklist.json").read_text())


def entry(v: dict) -> Entry:
    return Entry(key_of(v["kind"], v["value"]), v["not_before"], v["drop_after"])


def entries(vs: list[dict]) -> set[Entry]:
    return set(map(entry, vs))


class Vectors(unittest.TestCase):
    def test_keys(self) -> None:
        for v in VECTORS["keys"]:
            with self.subTest(v["value"], kind=v["kind"]):
                self.assertEqual(key_of(v["kind"], v["value"]).hex(), v["key"])

    def test_packed(self) -> None:
        for v in VECTORS["packed"]:
            with self.subTest(v["name"]):
                if "records" in v:
                    self.assertEqual(unpack(v["entries"]), list(map(entry, v["records"])))
                else:
                    self.assertRaises(ValueError, unpack, v["entries"])

    def test_records(self) -> None:
        for v in VECTORS["records"]:
            with self.subTest(v["kind"]):
                self.assertEqual(unpack(base64.b64encode(bytes.fromhex(v["bytes"])).decode()), [entry(v)])

    def test_tokens(self) -> None:
        for v in VECTORS["tokens"]:
            with self.subTest(v["name"]):
                blocklist = Blocklist()
                for e in v["entries"]:
                    blocklist.merge([entry(e)])
                self.assertEqual(blocklist.blocks(v["token"]["kid"], v["token"]["claims"]), v["refused"])

    def test_feeds(self) -> None:
        for v in VECTORS["feeds"]:
            with self.subTest(v["name"]):
                feed = Feed(VECTORS["issuer"])
                if "result" not in v:
                    with self.assertRaises(ValueError):
                        feed.take(v["documents"][0])
                    self.assertFalse(feed.loaded)
                    self.assertEqual(len(feed.blocklist), 0)
                    continue
                for document in v["documents"]:
                    feed.take(document)
                self.assertEqual(feed.cursor, v["result"]["cursor"])
                self.assertEqual(feed.blocklist.entries(), entries(v["result"]["entries"]))

    def test_streams(self) -> None:
        for v in VECTORS["streams"]["cases"]:
            with self.subTest(v["name"]):
                feed = Feed(VECTORS["issuer"])
                feed.take(VECTORS["streams"]["snapshot"])
                result = v["result"]
                self.assertEqual(read(feed, v["transcript"]), result["end"])
                self.assertEqual(feed.cursor, result["cursor"])
                self.assertEqual(feed.retry, (result["retry"] or 1000) / 1000)
                self.assertEqual(feed.as_of, datetime.fromisoformat(result["as_of"]).timestamp())
                self.assertEqual(feed.blocklist.entries(), entries(result["entries"]))


def read(feed: Feed, transcript: str) -> str:
    """Gives a stream to feed and returns how that ended."""
    try:
        for event in events(io.BytesIO(transcript.encode())):
            feed.event(event)
    except Reset:
        return "reset"
    except ValueError:
        return "error"
    return "open"


if __name__ == "__main__":
    unittest.main()
