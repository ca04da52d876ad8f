// A small issuer for the tests: keys, tokens and a feed whose every answer a test decides.
import { createServer } from 'node:http'
import { once } from 'node:events'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { keyOf } from '../blocklist.mjs'

export class Issuer {
  entries = [] // {kind, value, notBefore}
  history = 1 // raised when cursors are forgotten
  streamed = true // whether the stream can be had
  up = true
  requests = [] // what was asked of the feed: [path, cursor]
  #streams = new Set()

  static async start(alg = 'ES256') {
    const issuer = new Issuer()
    issuer.alg = alg
    issuer.key = await generateKeyPair(alg, { extractable: true })
    issuer.server = createServer((request, response) => issuer.#answer(request, response)).listen(0, '127.0.0.1')
    await once(issuer.server, 'listening')
    issuer.url = `http://127.0.0.1:${issuer.server.address().port}`
    return issuer
  }

  close() {
    this.server.close()
    this.server.closeAllConnections()
  }

  /** Mints a token, with changes to its header and claims. */
  async mint(claims = {}, header = {}, key = this.key) {
    const now = Math.floor(Date.now() / 1_000)
    const all = {
      iss: this.url, aud: 'api', sub: 'usr_1', jti: 'jti_1', sid: 'ses_1', client_id: 'default', scope: 'read', roles: ['editor'],
      iat: now, exp: now + 900, ...claims,
    }
    return new SignJWT(all).setProtectedHeader({ alg: this.alg, kid: 'key-1', typ: 'at+jwt', ...header }).sign(key.privateKey)
  }

  /** Revokes, and tells those who follow the stream. */
  block(kind, value) {
    this.entries.push({ kind, value, notBefore: 0xffffffff })
    for (const stream of this.#streams) this.#send(stream, this.#document(this.entries.slice(-1)))
  }

  /** Forgets every cursor, as after the restore of a database. */
  forget() {
    this.history++
    for (const stream of this.#streams) stream.end('event: reset\ndata: {}\n\n')
  }

  /** Ends the streams, and gives none from now on. */
  stopStreams() {
    this.streamed = false
    for (const stream of this.#streams) stream.destroy()
  }

  get #cursor() {
    return `${this.history}-${this.entries.length}`
  }

  #document(entries) {
    const packed = entries.map(({ kind, value, notBefore }) => {
      const record = Buffer.alloc(24, keyOf(kind, value), 'hex')
      record.writeUInt32BE(notBefore, 16)
      record.writeUInt32BE(0xffffffff, 20)
      return record
    })
    const asOf = new Date().toISOString()
    return { iss: this.url, cursor: this.#cursor, as_of: asOf, entries: Buffer.concat(packed).toString('base64') }
  }

  #send(stream, document) {
    stream.write(`event: entries\nid: ${document.cursor}\ndata: ${JSON.stringify(document)}\n\n`)
  }

  async #answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.url)
    const json = (body) => response.setHeader('content-type', 'application/json').end(JSON.stringify(body))
    if (!this.up) return response.writeHead(503).end()
    switch (pathname) {
      case '/.well-known/oauth-authorization-server':
        return json({
          issuer: this.url,
          jwks_uri: `${this.url}/jwks`,
          handstamp_blocklist_endpoint: `${this.url}/blocklist`,
          handstamp_blocklist_stream_endpoint: `${this.url}/stream`,
        })
      case '/jwks':
        return json({ keys: [{ ...(await exportJWK(this.key.publicKey)), kid: 'key-1', alg: this.alg, use: 'sig' }] })
    }
    const cursor = request.headers['last-event-id'] ?? searchParams.get('after')
    this.requests.push([pathname, cursor])
    const [history, position] = (cursor ?? '').split('-').map(Number)
    if (pathname === '/blocklist') {
      if (!cursor) return json(this.#document(this.entries))
      if (history !== this.history) return response.writeHead(410).end()
      if (request.headers['if-none-match'] === `"${this.#cursor}"`) return response.writeHead(304).end()
      return json(this.#document(this.entries.slice(position)))
    }
    if (!this.streamed) return response.writeHead(502).end()
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('retry: 100\n\n')
    if (history !== this.history) return response.end('event: reset\ndata: {}\n\n')
    this.#send(response, this.#document(this.entries.slice(position)))
    this.#streams.add(response)
    response.on('close', () => this.#streams.delete(response))
  }
}
