// The vectors that every follower of the feed shares.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Blocklist, keyOf, unpack } from '../blocklist.mjs'
import { Feed } from '../feed.mjs'
import { events } from '../sse.mjs'

const vectors = JSON.parse(readFileSync(new URL('../../vectors/blocklist.json', import.meta.url)))
const entry = (v) => ({ key: keyOf(v.kind, v.value), notBefore: v.not_before, dropAfter: v.drop_after })
const inOrder = (entries) => entries.toSorted((a, b) => a.key.localeCompare(b.key))

for (const { kind, value, key } of vectors.keys) {
  test(`key of ${kind} ${value}`, () => assert.equal(keyOf(kind, value), key))
}

for (const v of vectors.records) {
  test(`record of ${v.kind} ${v.value}`, () => {
    assert.deepEqual(unpack(Buffer.from(v.bytes, 'hex').toString('base64')), [entry(v)])
  })
}

for (const { name, entries, records } of vectors.packed) {
  test(`packed ${name}`, () => {
    if (records) assert.deepEqual(unpack(entries), records.map(entry))
    else assert.throws(() => unpack(entries))
  })
}

for (const { name, entries, token, refused } of vectors.tokens) {
  test(`token ${name}`, () => {
    const list = new Blocklist()
    for (const e of entries) list.merge([entry(e)])
    assert.equal(list.blocks({ kid: token.kid }, token.claims), refused)
  })
}

for (const { name, documents, result } of vectors.feeds) {
  test(`feed ${name}`, () => {
    const feed = new Feed(vectors.issuer)
    const take = () => documents.forEach((document) => feed.take(document))
    if (result) {
      take()
      assert.equal(feed.cursor, result.cursor)
      assert.deepEqual(inOrder(feed.blocklist.entries()), inOrder(result.entries.map(entry)))
    } else {
      assert.throws(take)
      assert.equal(feed.loaded, false)
      assert.equal(feed.blocklist.size, 0)
    }
  })
}

for (const { name, transcript, result } of vectors.streams.cases) {
  for (const size of [1, 7, 1 << 20]) {
    test(`stream ${name}, in pieces of ${size}`, async () => {
      const feed = new Feed(vectors.issuer)
      feed.take(vectors.streams.snapshot)
      const end = await read(feed, pieces(transcript, size))
      assert.equal(end, result.end)
      assert.equal(feed.cursor, result.cursor)
      assert.equal(feed.retry, result.retry ?? 1_000)
      assert.equal(feed.asOf, Date.parse(result.as_of))
      assert.deepEqual(inOrder(feed.blocklist.entries()), inOrder(result.entries.map(entry)))
    })
  }
}

async function* pieces(text, size) {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

/** Feeds a stream to feed and returns how that ended: open, reset or error. */
async function read(feed, stream) {
  try {
    for await (const event of events(stream)) feed.event(event)
    return 'open'
  } catch {
    return feed.cursor === '' ? 'reset' : 'error'
  }
}
