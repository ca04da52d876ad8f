// Verifies access tokens: the signature and the claims with jose, revocation with the feed.
import { setTimeout as sleep } from 'node:timers/promises'
import { createRemoteJWKSet, decodeProtectedHeader, errors, jwtVerify } from 'jose'
import { Feed } from './feed.mjs'

const ALGORITHMS = ['ES256', 'EdDSA', 'RS256']
const MAX_TOKEN = 8 << 10
const FUTURE = 30 // seconds that iat may be ahead: the clocks of issuer and resource server differ
const RELOAD_KEYS = 300_000 // a retired key goes, should a stream of blocked ones be missed

/** A token that is not accepted. It never will be. */
export class InvalidToken extends Error {
  constructor(message, { expired = false, ...options } = {}) {
    super(message, options)
    this.expired = expired
  }
}

/** Says nothing about the token: the keys or the blocklist could not be had. Try again. */
export class Unavailable extends Error {}

export class Verifier {
  #issuer
  #audience
  #failClosed
  #keys // as jose wants them: a function from header to key
  #stopping = new AbortController()

  /** The policy on silence: once the feed has been silent for maxStaleness seconds, failClosed answers Unavailable. */
  constructor(issuer, audience, { maxStaleness = 60, failClosed = false, keys } = {}) {
    if (!trustworthy(issuer)) throw new Error(`issuer ${issuer} must be https, or http on a loopback address`)
    this.#issuer = issuer
    this.#audience = audience
    this.#failClosed = failClosed
    this.#keys = keys
    this.feed = new Feed(issuer, maxStaleness)
  }

  /** Finds the issuer, which may be started later, and follows it until close. */
  async start() {
    const { signal } = this.#stopping
    for (;;) {
      try {
        const metadata = await discover(this.#issuer)
        if (signal.aborted) return
        this.#keys = createRemoteJWKSet(new URL(metadata.jwks_uri), {
          cacheMaxAge: Infinity, // the last good keys stay while the issuer is down, and are replaced in the background
          cooldownDuration: 30_000, // between fetches for a kid that is not known
        })
        await this.#keys.reload().catch(() => {}) // else with the first token
        const timer = setInterval(() => this.#keys.reload().catch(() => {}), RELOAD_KEYS)
        signal.addEventListener('abort', () => clearInterval(timer))
        this.feed.start(metadata.handstamp_blocklist_endpoint, metadata.handstamp_blocklist_stream_endpoint)
        return
      } catch (error) {
        if (signal.aborted) return
        console.error(`cannot reach the issuer yet: ${error.message}`)
        await sleep(1_000, undefined, { signal }).catch(() => {})
      }
    }
  }

  close() {
    this.#stopping.abort()
    this.feed.close()
  }

  /** Tells whether tokens can be checked. */
  get ready() {
    const { mode } = this.feed
    return Boolean(this.#keys) && mode !== 'loading' && !(mode === 'silent' && this.#failClosed)
  }

  /** Returns the claims of a valid access token that was not revoked. Throws InvalidToken or Unavailable. */
  async verify(raw) {
    const { header, claims } = await this.authenticate(raw)
    // An empty list is not the same as no revocations.
    if (!this.feed.loaded) throw new Unavailable('the blocklist is not loaded')
    if (this.feed.blocklist.blocks(header, claims)) throw new InvalidToken('revoked')
    if (!this.ready) throw new Unavailable('the blocklist is stale')
    return claims
  }

  /** Verifies all but revocation. */
  async authenticate(raw) {
    checkHeader(raw)
    if (!this.#keys) throw new Unavailable('the keys are not loaded')
    try {
      const { protectedHeader: header, payload: claims } = await jwtVerify(raw, this.#keys, {
        issuer: this.#issuer,
        audience: this.#audience,
        algorithms: ALGORITHMS,
        requiredClaims: ['exp', 'iat', 'sub', 'jti', 'client_id'],
      })
      checkClaims(claims)
      return { header, claims }
    } catch (error) {
      throw translate(error)
    }
  }
}

/** Refuses what no access token looks like, before anything is asked of the issuer. */
function checkHeader(raw) {
  if (raw.length > MAX_TOKEN || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(raw)) throw new InvalidToken('not a JWT')
  let header
  try {
    header = decodeProtectedHeader(raw)
  } catch (cause) {
    throw new InvalidToken('malformed header', { cause })
  }
  // Exactly these: nothing in a token names a key's whereabouts, and there is no crit to understand. The typ says that it is not
  // an ID token or whatever else the issuer signs (RFC 9068, section 2.1).
  const names = Object.keys(header).sort().join()
  if (names !== 'alg,kid,typ' || header.typ !== 'at+jwt' || typeof header.kid !== 'string') {
    throw new InvalidToken('not the header of an access token')
  }
}

/** Checks the types of what the blocklist goes by: a claim that it cannot look up could not be revoked. */
function checkClaims({ iat, exp, nbf, ...names }) {
  for (const name of ['sub', 'jti', 'client_id']) {
    if (typeof names[name] !== 'string' || names[name] === '') throw new InvalidToken(`malformed ${name}`)
  }
  if ('sid' in names && (typeof names.sid !== 'string' || names.sid === '')) throw new InvalidToken('malformed sid')
  for (const t of [iat, exp, nbf ?? iat]) if (!Number.isSafeInteger(t) || t <= 0) throw new InvalidToken('malformed time')
  if (iat > Date.now() / 1_000 + FUTURE) throw new InvalidToken('minted in the future')
}

/** A fault of the token is an InvalidToken; any other means that the keys could not be had. */
function translate(error) {
  if (error instanceof InvalidToken) return error
  if (error instanceof errors.JWTExpired) return new InvalidToken('expired', { expired: true, cause: error })
  const ofToken = /^ERR_(JWT|JWS|JOSE_ALG|JOSE_NOT_SUPPORTED|JWKS_NO_MATCHING|JWKS_MULTIPLE)/.test(error.code)
  return ofToken ? new InvalidToken(error.message, { cause: error }) : new Unavailable('no keys', { cause: error })
}

/** Fetches the issuer's metadata (RFC 8414): the well-known part goes between host and path. */
async function discover(issuer) {
  const { origin, pathname } = new URL(issuer)
  const address = `${origin}/.well-known/oauth-authorization-server${pathname.replace(/\/$/, '')}`
  const response = await fetch(address, { redirect: 'error', signal: AbortSignal.timeout(10_000) })
  if (response.status !== 200) throw new Error(`${address} answered ${response.status}`)
  const metadata = await response.json()
  if (metadata.issuer !== issuer) throw new Error(`the metadata is that of ${metadata.issuer}`)
  for (const name of ['jwks_uri', 'handstamp_blocklist_endpoint', 'handstamp_blocklist_stream_endpoint']) {
    if (!trustworthy(metadata[name])) throw new Error(`${name} is neither https nor loopback`)
  }
  return metadata
}

/** Reports whether what is fetched from an address comes from who owns its name: by TLS, or because it is this machine. */
function trustworthy(address) {
  const { protocol, hostname } = URL.canParse(address) ? new URL(address) : {}
  return protocol === 'https:' || (protocol === 'http:' && /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname))
}
