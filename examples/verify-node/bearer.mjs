// Bearer tokens in HTTP: where a token is found, and how a request without a good one is answered (RFC 6750).
import { InvalidToken, Unavailable } from './verifier.mjs'

/** A request without a bearer token, or (malformed) with one that cannot be read or with two. */
export class NoToken extends Error {
  constructor(malformed = false) {
    super(malformed ? 'malformed authorization' : 'no bearer token')
    this.malformed = malformed
  }
}

/**
 * Returns the token in the Authorization header. It is never taken from the query, where logs and histories keep it, nor from
 * the body (RFC 9700, section 4.3.2).
 */
export function bearerToken(request) {
  const [header, ...more] = request.headersDistinct.authorization ?? []
  if (more.length > 0) throw new NoToken(true)
  if (!/^bearer(?![^ \t,])/i.test(header ?? '')) throw new NoToken()
  const token = /^bearer +([\w.~+/-]+=*)$/i.exec(header)?.[1]
  const query = new URLSearchParams(request.url.split('?').slice(1).join('?'))
  if (!token || query.has('access_token')) throw new NoToken(true)
  return token
}

/** Answers a request that failed with error: 401, 400 or 503. */
export function refuse(response, error) {
  const [status, code, description] = answerTo(error)
  const headers = { 'content-type': 'application/json', 'cache-control': 'no-store' }
  // Who did not know that a token is needed did nothing wrong, and is not given an error code (RFC 6750, section 3.1).
  if (code === 'unauthorized') headers['www-authenticate'] = 'Bearer'
  else if (status < 500) headers['www-authenticate'] = `Bearer error="${code}", error_description="${description}"`
  if (status === 503) headers['retry-after'] = '1'
  response.writeHead(status, headers).end(JSON.stringify({ error: code, error_description: description }) + '\n')
}

function answerTo(error) {
  if (error instanceof NoToken) {
    return error.malformed
      ? [400, 'invalid_request', 'One bearer token must be in one Authorization header']
      : [401, 'unauthorized', 'An access token is required']
  }
  // Which check failed is for the log: a client learns only that a token has expired.
  if (error instanceof InvalidToken) return [401, 'invalid_token', `The access token ${error.expired ? 'expired' : 'is not valid'}`]
  if (error instanceof Unavailable) return [503, 'temporarily_unavailable', 'The access token cannot be checked now']
  return [500, 'server_error', 'Internal server error']
}
