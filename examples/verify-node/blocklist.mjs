// The blocklist: which tokens are refused although they have not expired.
import { createHash } from 'node:crypto'

const RECORD = 24 // bytes: key[16] | not_before uint32 | drop_after uint32, big-endian

/** The claims, besides the kid of the header, by which an entry can refuse a token. */
const CLAIMS = ['jti', 'sid', 'client_id']

/** Returns the key of an entry, in hex: the first 16 bytes of SHA-256(kind || 0x00 || value). */
export function keyOf(kind, value) {
  return createHash('sha256').update(`${kind}\0${value}`).digest('hex').slice(0, 32)
}

/** Returns the entries in a feed document's base64. Throws for text that is cut short or not strictly base64. */
export function unpack(base64) {
  const bytes = Buffer.from(String(base64), 'base64')
  if (bytes.toString('base64') !== base64 || bytes.length % RECORD !== 0) throw new Error('malformed blocklist entries')
  const entries = []
  for (let at = 0; at < bytes.length; at += RECORD) {
    entries.push({
      key: bytes.toString('hex', at, at + 16),
      notBefore: bytes.readUInt32BE(at + 16),
      dropAfter: bytes.readUInt32BE(at + 20),
    })
  }
  return entries
}

export class Blocklist {
  #entries = new Map() // key => [notBefore, dropAfter]

  get size() {
    return this.#entries.size
  }

  /** Adds entries. The feed may repeat one: of each value the larger holds, so the order does not matter. */
  merge(entries) {
    for (const { key, notBefore, dropAfter } of entries) {
      const [nb, da] = this.#entries.get(key) ?? [0, 0]
      this.#entries.set(key, [Math.max(nb, notBefore), Math.max(da, dropAfter)])
    }
  }

  /** Reports whether a verified token is refused: an entry for its jti, sid, client_id or kid is no older than its iat. */
  blocks({ kid }, claims) {
    const refuses = (kind, value) => {
      const entry = value && this.#entries.get(keyOf(kind, value))
      return Boolean(entry) && claims.iat <= entry[0]
    }
    return refuses('kid', kid) || CLAIMS.some((name) => refuses(name, claims[name]))
  }

  /** Drops the entries whose time ended before t (Unix seconds): every token that they could refuse has expired. */
  purge(t) {
    for (const [key, [, dropAfter]] of this.#entries) if (dropAfter < t) this.#entries.delete(key)
  }

  /** Returns all entries. */
  entries() {
    return Array.from(this.#entries, ([key, [notBefore, dropAfter]]) => ({ key, notBefore, dropAfter }))
  }
}
