// AppAuth as in an installed application: it opens the person's browser and waits on a loopback port of its own choice (RFC 8252, section 7.3).
// Argument: {issuer, clientId}; the browser is $BROWSER.
import assert from "node:assert/strict";
import { createServer } from "node:net";
import {
  AuthorizationNotifier, AuthorizationRequest, AuthorizationServiceConfiguration, BaseTokenRequestHandler, BasicQueryStringUtils,
  GRANT_TYPE_AUTHORIZATION_CODE, GRANT_TYPE_REFRESH_TOKEN, RevokeTokenRequest, TokenRequest,
} from "@openid/appauth";
import { NodeCrypto } from "@openid/appauth/built/src/node_support/crypto_utils.js";
import { NodeBasedHandler } from "@openid/appauth/built/src/node_support/node_request_handler.js";
import { NodeRequestor } from "@openid/appauth/built/src/node_support/node_requestor.js";

const { issuer, clientId: client_id } = JSON.parse(process.argv[2]);
const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, () => { const { port } = probe.address(); probe.close(() => resolve(port)); });
});
const redirect_uri = `http://127.0.0.1:${port}/cb`;
const requestor = new NodeRequestor();
const configuration = await AuthorizationServiceConfiguration.fetchFromIssuer(issuer, requestor);

const notifier = new AuthorizationNotifier();
const handler = new NodeBasedHandler(port, new BasicQueryStringUtils(), new NodeCrypto());
handler.setAuthorizationNotifier(notifier);
const { request, code } = await new Promise((resolve, reject) => {
  notifier.setAuthorizationListener((request, response, error) => (response ? resolve({ request, code: response.code }) : reject(error)));
  handler.performAuthorizationRequest(configuration, new AuthorizationRequest(
    { client_id, redirect_uri, scope: "openid offline_access", response_type: AuthorizationRequest.RESPONSE_TYPE_CODE, extras: { access_type: "offline" } }, new NodeCrypto()));
});

const tokens = new BaseTokenRequestHandler(requestor);
const first = await tokens.performTokenRequest(configuration, new TokenRequest({
  client_id, redirect_uri, code, grant_type: GRANT_TYPE_AUTHORIZATION_CODE, extras: { code_verifier: request.internal.code_verifier },
}));
assert.ok(first.idToken && first.accessToken && first.refreshToken);
const next = await tokens.performTokenRequest(configuration, new TokenRequest({
  client_id, redirect_uri, grant_type: GRANT_TYPE_REFRESH_TOKEN, refresh_token: first.refreshToken,
}));
assert.notEqual(next.refreshToken, first.refreshToken);
await tokens.performRevokeTokenRequest(configuration, new RevokeTokenRequest({ token: next.refreshToken, token_type_hint: "refresh_token", client_id }));
console.log(JSON.stringify({ redirect_uri }));
process.exit(0); // the handler's server keeps a connection open
