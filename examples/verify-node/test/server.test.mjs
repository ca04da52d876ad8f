// The server as started from the command line, against a small issuer.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { request as send } from 'node:http'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { generateKeyPair } from 'jose'
import { Issuer } from './issuer.mjs'

/** Starts issuer and server, and returns them with a function that asks for /hello. */
async function start(t, { alg, flags = [], up = true } = {}) {
  const issuer = await Issuer.start(alg)
  issuer.up = up
  t.after(() => issuer.close())
  const path = new URL('../server.mjs', import.meta.url).pathname
  const args = [path, '--issuer', issuer.url, '--audience', 'api', '--listen', '127.0.0.1:0', ...flags]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  t.after(() => child.kill())
  const { value: line } = await createInterface(child.stdout)[Symbol.asyncIterator]().next()
  const url = line.replace('listening on ', '')

  const get = async (path, headers) => {
    const response = await fetch(url + path, { headers })
    return { status: response.status, challenge: response.headers.get('www-authenticate'), body: await response.text() }
  }
  const hello = (token) => get('/hello', { authorization: `Bearer ${token}` })
  if (up) await until(async () => (await get('/readyz')).status === 200)
  return { issuer, url, get, hello }
}

/** Waits until condition holds, at most ten seconds. */
async function until(condition) {
  const deadline = Date.now() + 10_000
  while (!(await condition())) {
    assert(Date.now() < deadline, 'it did not happen')
    await sleep(10)
  }
}

for (const alg of ['ES256', 'EdDSA', 'RS256']) {
  test(`ok/${alg}`, async (t) => {
    const { issuer, hello } = await start(t, { alg })
    const { status, body } = await hello(await issuer.mint())
    assert.equal(status, 200)
    assert.deepEqual(JSON.parse(body), { subject: 'usr_1', scope: 'read', roles: ['editor'] })
  })
}

test('fail/what is no valid access token', async (t) => {
  const { issuer, hello } = await start(t)
  const now = Math.floor(Date.now() / 1_000)
  const good = await issuer.mint()
  const [header, payload, signature] = good.split('.')
  const none = Buffer.from('{"alg":"none","kid":"key-1","typ":"at+jwt"}').toString('base64url')
  const refused = {
    'another issuer': await issuer.mint({ iss: 'https://issuer.example' }),
    'another audience': await issuer.mint({ aud: 'other' }),
    'an ID token': await issuer.mint({}, { typ: 'JWT' }),
    'another key': await issuer.mint({}, {}, await generateKeyPair('ES256')),
    'an unknown kid': await issuer.mint({}, { kid: 'key-2' }),
    'a header too many': await issuer.mint({}, { jku: 'https://evil.example/jwks' }),
    'no sub': await issuer.mint({ sub: undefined }),
    'no jti': await issuer.mint({ jti: undefined }),
    'a sid that is no string': await issuer.mint({ sid: 7 }),
    'from the future': await issuer.mint({ iat: now + 300 }),
    'not valid yet': await issuer.mint({ nbf: now + 300 }),
    unsigned: `${none}.${payload}.`,
    'no signature': `${header}.${payload}.`,
    'another payload': `${header}.${Buffer.from('{"sub":"usr_2"}').toString('base64url')}.${signature}`,
    'too long': await issuer.mint({ pad: 'x'.repeat(8 << 10) }),
    garbage: 'garbage',
  }
  for (const [what, token] of Object.entries(refused)) {
    const { status, challenge } = await hello(token)
    assert.equal(status, 401, what)
    assert.equal(challenge, 'Bearer error="invalid_token", error_description="The access token is not valid"', what)
  }
  const { status, challenge } = await hello(await issuer.mint({ exp: now }))
  assert.equal(status, 401)
  assert.equal(challenge, 'Bearer error="invalid_token", error_description="The access token expired"')
  assert.equal((await hello(good)).status, 200)
})

test('fail/where no token may be', async (t) => {
  const { issuer, url, get } = await start(t)
  const token = await issuer.mint()
  const cases = [
    ['no token', '/hello', {}, 401, 'Bearer'],
    ['another scheme', '/hello', { authorization: 'Basic eDp5' }, 401, 'Bearer'],
    ['a scheme that begins like it', '/hello', { authorization: `Bearerx ${token}` }, 401, 'Bearer'],
    ['only in the query', `/hello?access_token=${token}`, {}, 401, 'Bearer'],
    ['in the query as well', `/hello?access_token=${token}`, { authorization: `Bearer ${token}` }, 400],
    ['no credential', '/hello', { authorization: 'Bearer' }, 400],
    ['two in one', '/hello', { authorization: `Bearer ${token}, Bearer ${token}` }, 400],
  ]
  for (const [what, path, headers, status, challenge] of cases) {
    const answer = await get(path, headers)
    assert.equal(answer.status, status, what)
    assert.equal(answer.challenge?.replace(/, error_description=.*/, ''), challenge ?? 'Bearer error="invalid_request"', what)
  }
  const headers = ['Host', 'api.example', ...Array(2).fill(['Authorization', `Bearer ${token}`]).flat()] // fetch would join them
  const [two] = await once(send(`${url}/hello`, { headers }).end(), 'response')
  assert.equal(two.resume().statusCode, 400)
  assert.equal((await get('/hello', { authorization: `bearer ${token}` })).status, 200)
})

for (const [kind, value] of [['jti', 'jti_1'], ['sid', 'ses_1'], ['client_id', 'default'], ['kid', 'key-1']]) {
  test(`fail/revoked by ${kind}`, async (t) => {
    const { issuer, hello } = await start(t)
    const token = await issuer.mint()
    await until(() => issuer.requests.some(([path]) => path === '/stream'))
    assert.equal((await hello(token)).status, 200)
    issuer.block(kind, value)
    await until(async () => (await hello(token)).status === 401)
    assert.equal((await hello(await issuer.mint({ jti: 'jti_2', sid: 'ses_2', client_id: 'other' }))).status, kind === 'kid' ? 401 : 200)
  })
}

test('ok/the stream resumes where it was', async (t) => {
  const { issuer, hello } = await start(t)
  await until(() => issuer.requests.some(([path]) => path === '/stream'))
  issuer.block('jti', 'jti_1')
  const token = await issuer.mint()
  await until(async () => (await hello(token)).status === 401)
  issuer.server.closeAllConnections()
  await until(() => issuer.requests.some(([path, cursor]) => path === '/stream' && cursor === '1-1'))
})

test('ok/without the stream it polls', async (t) => {
  const { issuer, hello } = await start(t)
  await until(() => issuer.requests.some(([path]) => path === '/stream'))
  issuer.stopStreams()
  issuer.block('jti', 'jti_1')
  const token = await issuer.mint()
  await until(async () => (await hello(token)).status === 401)
  assert(issuer.requests.some(([path, cursor]) => path === '/blocklist' && cursor === '1-0'))
})

for (const [how, meanwhile] of [['reset', () => {}], ['410', (issuer) => issuer.stopStreams()]]) {
  test(`ok/after a ${how} it takes a snapshot`, async (t) => {
    const { issuer, hello } = await start(t)
    await until(() => issuer.requests.some(([path]) => path === '/stream'))
    meanwhile(issuer)
    issuer.entries = [{ kind: 'jti', value: 'jti_1', notBefore: 0xffffffff }]
    issuer.requests = []
    issuer.forget()
    const token = await issuer.mint()
    await until(async () => (await hello(token)).status === 401)
    assert(issuer.requests.some(([path, cursor]) => path === '/blocklist' && cursor === null))
  })
}

test('ok/it may be started before the issuer', async (t) => {
  const { issuer, get, hello } = await start(t, { up: false })
  assert.equal((await get('/readyz')).status, 503)
  const token = await issuer.mint()
  assert.equal((await hello(token)).status, 503)
  issuer.up = true
  await until(async () => (await hello(token)).status === 200)
})

for (const [policy, flags, status] of [['open', [], 200], ['closed', ['--fail-closed'], 503]]) {
  test(`ok/silence, fail ${policy}`, async (t) => {
    const { issuer, get, hello } = await start(t, { flags: ['--max-staleness', '1', ...flags] })
    issuer.block('jti', 'jti_blocked')
    const [token, blocked] = [await issuer.mint(), await issuer.mint({ jti: 'jti_blocked' })]
    await until(async () => (await hello(blocked)).status === 401)
    issuer.up = false
    issuer.stopStreams()
    await until(async () => JSON.parse((await get('/readyz')).body).feed === 'silent')
    assert.equal((await hello(token)).status, status)
    assert.equal((await get('/readyz')).status, status)
    assert.equal((await hello(blocked)).status, 401)
  })
}
