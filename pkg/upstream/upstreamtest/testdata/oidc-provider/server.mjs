// A real OpenID provider for the tests: npm's oidc-provider on a free loopback port, with a user who logs in and consents at once.
// Configuration: JSON in the first argument {clientId, clientSecret, redirectUri}. It prints {"issuer": ...} when it is ready
// and ends when its standard input does, so that it never outlives the test.
//
// The login_hint says who logs in: an e-mail address, with "?unverified" after it for one that is not proven; "deny" says no.
import { generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const { clientId, clientSecret, redirectUri } = JSON.parse(process.argv[2]);
const server = createServer();
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const issuer = `http://127.0.0.1:${server.address().port}`;

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const account = (id) => {
  const [email, flag] = id.split("?");
  return { sub: id, email, email_verified: flag !== "unverified", name: `Name of ${email}` };
};

const provider = new Provider(issuer, {
  clients: [{
    client_id: clientId, client_secret: clientSecret, redirect_uris: [redirectUri],
    grant_types: ["authorization_code", "refresh_token"], response_types: ["code"],
  }],
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" }] },
  cookies: { keys: [randomBytes(32).toString("hex")] },
  claims: { email: ["email", "email_verified"], profile: ["name"] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false } },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => account(id) }),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
});

const finish = async (req, res) => {
  const { prompt, params, session, grantId } = await provider.interactionDetails(req, res);
  if (params.login_hint === "deny") {
    return provider.interactionFinished(req, res, { error: "access_denied", error_description: "<b>the user said no</b>" });
  }
  if (prompt.name === "login") {
    return provider.interactionFinished(req, res, { login: { accountId: params.login_hint ?? "someone@example.com" } });
  }
  const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return provider.interactionFinished(req, res, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
};

const callback = provider.callback();
server.on("request", (req, res) => {
  if (!req.url.startsWith("/interaction/")) return callback(req, res);
  finish(req, res).catch((error) => { res.statusCode = 500; res.end(String(error)); });
});
process.stdin.resume().on("end", () => process.exit(0));
console.log(JSON.stringify({ issuer }));
