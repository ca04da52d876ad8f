// openid-client goes through everything that it can do with the server. Argument: {issuer, clientId, clientSecret?, redirectUri, afterLogout, email, password}.
import assert from "node:assert/strict";
import * as client from "openid-client";
import { Person } from "./person.mjs";

const { issuer, clientId, clientSecret, redirectUri, afterLogout, ...credentials } = JSON.parse(process.argv[2]);
const person = new Person(credentials);
const config = await client.discovery(new URL(issuer), clientId, clientSecret, clientSecret ? undefined : client.None(), { execute: [client.allowInsecureRequests] });
client.enableNonRepudiationChecks(config); // the ID token's signature too, which TLS would stand for

const login = async (build, checks = {}) => {
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const expectedState = client.randomState(), expectedNonce = client.randomNonce();
  const address = await build(config, {
    redirect_uri: redirectUri, scope: "openid email profile offline_access", state: expectedState, nonce: expectedNonce,
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: "S256", ...checks.parameters,
  });
  const back = await person.browse(address.href);
  return client.authorizationCodeGrant(config, back, { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true, maxAge: checks.maxAge });
};

let tokens = await login(client.buildAuthorizationUrl);
const { sub } = tokens.claims();
const user = await client.fetchUserInfo(config, tokens.access_token, sub);
assert.equal(user.email, credentials.email);

const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
assert.notEqual(refreshed.refresh_token, tokens.refresh_token);
assert.equal((await client.fetchUserInfo(config, refreshed.access_token, sub)).sub, sub);

// A pushed request, with max_age, whose auth_time the library checks.
const pushed = await login(client.buildAuthorizationUrlWithPAR, { parameters: { max_age: "3600" }, maxAge: 3600 });
assert.equal(pushed.claims().sub, sub);

if (clientSecret) {
  assert.equal((await client.tokenIntrospection(config, pushed.access_token)).active, true);
}
await client.tokenRevocation(config, refreshed.refresh_token);
await assert.rejects(client.refreshTokenGrant(config, refreshed.refresh_token), { error: "invalid_grant" });

// A silent request finds the person logged in; after the logout it does not.
tokens = await login(client.buildAuthorizationUrl, { parameters: { prompt: "none" } });
const end = client.buildEndSessionUrl(config, { id_token_hint: tokens.id_token, post_logout_redirect_uri: afterLogout, state: "bye" });
assert.equal((await person.browse(end.href)).href, `${afterLogout}?state=bye`);
await assert.rejects(login(client.buildAuthorizationUrl, { parameters: { prompt: "none" } }), { error: "login_required" });
await assert.rejects(client.refreshTokenGrant(config, tokens.refresh_token), { error: "invalid_grant" });
console.log(JSON.stringify({ sub }));
