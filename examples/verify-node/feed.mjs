// Follows the issuer's revocation feed: the stream while it can be had, polling while not.
import { setTimeout as sleep } from 'node:timers/promises'
import { Blocklist, unpack } from './blocklist.mjs'
import { events } from './sse.mjs'

const POLL_EVERY = 1_000
const SILENCE = 15_000 // three heartbeats; after that the stream is given up
const SLOWEST = 15_000 // between attempts that fail
const CLOCKS = 30_000 // how far the issuer's clock and ours may differ
const PURGE_MARGIN = 600 // seconds beyond drop_after, for clocks that are set

/** The issuer no longer knows our cursor. */
class Reset extends Error {}

export class Feed {
  #issuer
  #maxStaleness
  #live = false // the stream speaks
  #fresh = 0 // every revocation before this instant of our clock (ms) is known
  #asOf = 0 // the issuer's last word on that, by its clock
  #stopping = new AbortController()

  blocklist = new Blocklist()
  cursor = '' // where we are in the feed; empty until there is a snapshot, and when the issuer has forgotten it
  loaded = false // there was a snapshot
  retry = 1_000 // ms before the stream is tried again

  /** maxStaleness is in seconds. */
  constructor(issuer, maxStaleness = 60) {
    this.#issuer = issuer
    this.#maxStaleness = maxStaleness * 1_000
  }

  /** 'loading' until there is a snapshot, 'silent' when what is known is older than maxStaleness, else 'stream' or 'polling'. */
  get mode() {
    if (!this.loaded) return 'loading'
    // The wall clock, not a monotonic one: it goes on while the machine sleeps.
    if (Date.now() - this.#fresh > this.#maxStaleness) return 'silent'
    return this.#live ? 'stream' : 'polling'
  }

  get asOf() {
    return this.#asOf
  }

  /** Follows the feed at the addresses until close. */
  start(pollAddress, streamAddress) {
    this.#listen(pollAddress, streamAddress)
    this.#pollWhileDeaf(pollAddress)
  }

  close() {
    this.#stopping.abort()
  }

  /** Merges a feed document that was complete at the instant `now`: a snapshot, or what changed since the cursor. */
  take(document, now = Date.now()) {
    if (document.iss !== this.#issuer) throw new Error(`feed of another issuer: ${document.iss}`)
    if (typeof document.cursor !== 'string' || document.cursor === '') throw new Error('feed without a cursor')
    const asOf = time(document.as_of)
    this.blocklist.merge(unpack(document.entries))
    this.cursor = document.cursor // only now, so that nothing is passed over
    this.loaded = true
    this.#credit(asOf, now)
  }

  /** Takes over one event of the stream. */
  event({ event, id, data, retry }) {
    if (retry) this.retry = Math.min(Math.max(retry, 100), 60_000)
    switch (event) {
      case 'entries':
        this.take(JSON.parse(data))
        break
      case 'heartbeat':
        this.#credit(time(JSON.parse(data).as_of), Date.now())
        if (id && this.cursor) this.cursor = id
        break
      case 'reset':
        this.cursor = ''
        throw new Reset('the issuer does not know the cursor')
    } // events of other names are for later versions
  }

  /**
   * Notes that the issuer said, at the instant `now` of our clock, that it had looked at `asOf` of its own. Saying the same again
   * shows that it has not looked since (a cache may have answered), and what was long on the way counts from when it was said.
   */
  #credit(asOf, now) {
    if (asOf === this.#asOf) return
    this.#asOf = asOf
    const late = now - asOf > CLOCKS ? now - asOf : 0
    this.#fresh = Math.max(this.#fresh, now - late)
  }

  /** Fetches a snapshot, or with a cursor what changed since. */
  async poll(address) {
    const cursor = this.cursor
    const url = new URL(address)
    const headers = { accept: 'application/json' }
    if (cursor) {
      url.searchParams.set('after', cursor)
      headers['if-none-match'] = `"${cursor}"`
    }
    const sent = Date.now()
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(cursor ? 10_000 : 60_000)])
    const response = await fetch(url, { headers, redirect: 'error', signal })
    const age = 1_000 * (Number(response.headers.get('age')) || 0) // how long a cache on the way has held the answer
    if (response.status === 200) {
      this.take(await response.json(), sent - age)
      return
    }
    await response.body?.cancel()
    if (response.status === 304 && cursor) {
      this.#fresh = Math.max(this.#fresh, sent - age)
    } else if (response.status === 410 && cursor) {
      this.cursor = ''
      await this.poll(address)
    } else {
      throw new Error(`${address} answered ${response.status}`)
    }
  }

  /** Connects to the stream and takes what comes, until it ends or falls silent. */
  async #stream(address) {
    const silence = new AbortController()
    const watchdog = setTimeout(() => silence.abort(new Error('the stream is silent')), SILENCE)
    try {
      const response = await fetch(address, {
        // Compression would hold events back.
        headers: { accept: 'text/event-stream', 'accept-encoding': 'identity', 'last-event-id': this.cursor },
        redirect: 'error',
        signal: AbortSignal.any([this.#stopping.signal, silence.signal]),
      })
      if (response.status === 410) this.event({ event: 'reset' })
      if (response.status !== 200 || !response.headers.get('content-type')?.startsWith('text/event-stream')) {
        await response.body?.cancel()
        throw new Error(`${address} answered ${response.status}`)
      }
      for await (const event of events(response.body)) {
        watchdog.refresh()
        this.event(event)
        this.#live = true // nothing on the way holds events back
      }
    } finally {
      this.#live = false
      clearTimeout(watchdog)
    }
  }

  async #listen(pollAddress, streamAddress) {
    for (let failures = 0; !this.#stopping.signal.aborted; ) {
      try {
        if (!this.cursor) await this.poll(pollAddress)
        await this.#stream(streamAddress)
        failures = 0
      } catch (error) {
        failures = error instanceof Reset ? 0 : failures + 1
      }
      await this.#pause(this.retry, failures)
    }
  }

  async #pollWhileDeaf(address) {
    for (let failures = 0; !this.#stopping.signal.aborted; ) {
      await this.#pause(POLL_EVERY, failures)
      try {
        if (!this.#live) await this.poll(address)
        failures = 0
      } catch {
        failures++ // mode tells, once it has lasted for too long
      }
      // Both by our clock, which decides when a token has expired, and by the issuer's: setting one forward brings no token back.
      this.blocklist.purge(Math.min(Date.now(), this.#asOf) / 1_000 - PURGE_MARGIN)
    }
  }

  /** Waits for a random part of ms, so that followers do not move in step, and longer with each failure. */
  async #pause(ms, failures) {
    const longest = Math.min(ms * 2 ** Math.min(failures, 10), Math.max(SLOWEST, ms))
    await sleep(longest * (0.5 + Math.random() / 2), undefined, { signal: this.#stopping.signal }).catch(() => {})
  }
}

/** Returns the instant in ms of an RFC 3339 time. */
function time(text) {
  const t = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : NaN
  if (Number.isNaN(t)) throw new Error('feed without as_of')
  return t
}
