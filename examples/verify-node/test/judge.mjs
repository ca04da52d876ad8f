// Reads a corpus of tokens and prints, for each, who accepts it: jose, as its documentation recommends to use it, and this example.
import { createLocalJWKSet, jwtVerify } from 'jose'
import { InvalidToken, Verifier } from '../verifier.mjs'

const chunks = []
for await (const chunk of process.stdin) chunks.push(chunk)
const { issuer, audience, jwks, tokens } = JSON.parse(Buffer.concat(chunks))

const keys = createLocalJWKSet(jwks)
const verifier = new Verifier(issuer, audience, { keys })

const jose = (token) =>
  jwtVerify(token, keys, {
    issuer,
    audience,
    algorithms: ['ES256', 'EdDSA', 'RS256'],
    typ: 'at+jwt',
    requiredClaims: ['exp', 'iat', 'sub', 'jti', 'client_id'],
  })

const verdicts = []
for (const { token } of tokens) {
  const library = await jose(token).then(() => true, () => false)
  const example = await verifier.authenticate(token).then(() => true, refused)
  verdicts.push({ library, example })
}
console.log(JSON.stringify(verdicts))

/** A fault of a token must be known as one, not taken for an outage. */
function refused(error) {
  if (error instanceof InvalidToken) return false
  throw error
}
