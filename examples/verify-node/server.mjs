// An API that accepts Handstamp's access tokens. It checks them offline and hears of revocations as they happen.
//
//	node server.mjs --issuer http://127.0.0.1:8080 --audience http://127.0.0.1:8080 --listen 127.0.0.1:9091
//
// GET /hello wants a valid token and answers its subject. GET /readyz tells whether tokens can be checked.
import { createServer } from 'node:http'
import { parseArgs } from 'node:util'
import { bearerToken, refuse } from './bearer.mjs'
import { Verifier } from './verifier.mjs'

const { values: flags } = parseArgs({
  options: {
    issuer: { type: 'string', default: 'http://127.0.0.1:8080' },
    audience: { type: 'string' }, // name of this API, as in the aud of its tokens; the default is the issuer
    listen: { type: 'string', default: '127.0.0.1:9091' },
    'max-staleness': { type: 'string', default: '60' }, // seconds for which the feed may be silent
    'fail-closed': { type: 'boolean', default: false }, // then answer 503, instead of going by the revocations known so far
  },
})
const verifier = new Verifier(flags.issuer, flags.audience ?? flags.issuer, {
  maxStaleness: Number(flags['max-staleness']),
  failClosed: flags['fail-closed'],
})

const server = createServer(async (request, response) => {
  try {
    switch (`${request.method} ${request.url.split('?')[0]}`) {
      case 'GET /hello':
        return hello(response, await verifier.verify(bearerToken(request)))
      case 'GET /readyz':
        return json(response, verifier.ready ? 200 : 503, { feed: verifier.feed.mode })
    }
    response.writeHead(404).end()
  } catch (error) {
    refuse(response, error)
  }
})

function hello(response, claims) {
  json(response, 200, { subject: claims.sub, scope: claims.scope, roles: claims.roles })
}

function json(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(body) + '\n')
}

const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(flags.listen)
server.listen(Number(port), host, () => {
  const { address, family, port } = server.address()
  console.log(`listening on http://${family === 'IPv6' ? `[${address}]` : address}:${port}`)
})
verifier.start()

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    verifier.close()
    server.close()
    server.closeIdleConnections()
  })
}
