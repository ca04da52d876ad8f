// oauth4webapi, which checks every answer against the letter of the standards. Argument: {issuer, clientId, clientSecret?, redirectUri, email, password}.
import assert from "node:assert/strict";
import * as oauth from "oauth4webapi";
import { Person } from "./person.mjs";

const { issuer, clientId, clientSecret, redirectUri, audience, ...credentials } = JSON.parse(process.argv[2]);
const person = new Person(credentials);
const insecure = { [oauth.allowInsecureRequests]: true };
const client = { client_id: clientId };
const authenticate = clientSecret ? oauth.ClientSecretBasic(clientSecret) : oauth.None();

for (const algorithm of ["oidc", "oauth2"]) { // the two names of the metadata document
  const as = await oauth.processDiscoveryResponse(new URL(issuer), await oauth.discoveryRequest(new URL(issuer), { algorithm, ...insecure }));
  const verifier = oauth.generateRandomCodeVerifier(), state = oauth.generateRandomState(), nonce = oauth.generateRandomNonce();
  const parameters = {
    client_id: clientId, redirect_uri: redirectUri, response_type: "code", scope: "openid email", state, nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256",
  };
  const par = await oauth.processPushedAuthorizationResponse(as, client,
    await oauth.pushedAuthorizationRequest(as, client, authenticate, parameters, insecure));
  const address = new URL(as.authorization_endpoint);
  address.search = new URLSearchParams({ client_id: clientId, request_uri: par.request_uri });

  const back = oauth.validateAuthResponse(as, client, await person.browse(address.href), state); // iss too (RFC 9207)
  const answer = await oauth.authorizationCodeGrantRequest(as, client, authenticate, back, redirectUri, verifier, insecure);
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, answer, { expectedNonce: nonce, requireIdToken: true });
  await oauth.validateApplicationLevelSignature(as, answer, insecure);
  const { sub } = oauth.getValidatedIdTokenClaims(tokens);

  const user = await oauth.processUserInfoResponse(as, client, sub, await oauth.userInfoRequest(as, client, tokens.access_token, insecure));
  assert.equal(user.email, credentials.email);
  const request = new Request(as.userinfo_endpoint, { headers: { authorization: `Bearer ${tokens.access_token}` } });
  const claims = await oauth.validateJwtAccessToken(as, request, audience, insecure); // RFC 9068
  assert.equal(claims.sub, sub);

  const next = await oauth.processRefreshTokenResponse(as, client,
    await oauth.refreshTokenGrantRequest(as, client, authenticate, tokens.refresh_token, insecure));
  if (clientSecret) {
    const about = await oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, authenticate, next.access_token, insecure));
    assert.equal(about.active, true);
  }
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, authenticate, next.refresh_token, insecure));
  const refused = await oauth.refreshTokenGrantRequest(as, client, authenticate, next.refresh_token, insecure);
  await assert.rejects(oauth.processRefreshTokenResponse(as, client, refused), { error: "invalid_grant" });

  // Refusals are told in the standard's form.
  const no = await person.browse(`${as.authorization_endpoint}?${new URLSearchParams({ ...parameters, response_type: "token" })}`);
  assert.throws(() => oauth.validateAuthResponse(as, client, no, state), { error: "unsupported_response_type" });
  const bad = await oauth.authorizationCodeGrantRequest(as, client, authenticate, back, redirectUri, verifier, insecure);
  await assert.rejects(oauth.processAuthorizationCodeResponse(as, client, bad), { error: "invalid_grant" });
}
console.log("{}");
