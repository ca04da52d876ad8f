// An application that logs its users in at Handstamp: node server.mjs LIBRARY --issuer URL --client-id ID --client-secret SECRET --port PORT
//
// GET /login logs in, and GET /me shows who is logged in, as the library tells. Each library is set up as its own guide has it.
import express from 'express';
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';

const { values: settings, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    issuer: { type: 'string' },
    'client-id': { type: 'string' },
    'client-secret': { type: 'string' },
    port: { type: 'string' },
  },
});
const issuer = settings.issuer;
const clientID = settings['client-id'];
const clientSecret = settings['client-secret'];
const base = `http://localhost:${settings.port}`;
const secret = randomBytes(32).toString('hex');
const app = express();

const libraries = {
  // https://github.com/panva/openid-client, version 5, as its README begins: without PKCE.
  async 'openid-client'() {
    const { Issuer, generators } = await import('openid-client');
    const { Client } = await Issuer.discover(issuer);
    const redirect = `${base}/callback`;
    const client = new Client({
      client_id: clientID,
      client_secret: clientSecret,
      redirect_uris: [redirect],
      response_types: ['code'],
    });
    let state, tokens;
    app.get('/login', (_, response) => {
      state = generators.state();
      response.redirect(client.authorizationUrl({ scope: 'openid email profile', state }));
    });
    app.get('/callback', async (request, response, next) => {
      try {
        tokens = await client.callback(redirect, client.callbackParams(request), { state });
        const before = tokens.claims();
        tokens = await client.refresh(tokens); // which checks the ID token of a refresh against the one before
        if (tokens.claims().sub !== before.sub) throw new Error('another user');
        response.redirect('/me');
      } catch (error) {
        next(error);
      }
    });
    app.get('/me', (_, response) => response.json(tokens ? tokens.claims() : {}));
  },

  // https://github.com/auth0/express-openid-connect: a regular web application.
  async 'express-openid-connect'() {
    const { default: library } = await import('express-openid-connect');
    app.use(library.auth({
      authRequired: false,
      issuerBaseURL: issuer,
      baseURL: base,
      clientID,
      clientSecret,
      secret,
      authorizationParams: { response_type: 'code', scope: 'openid profile email' },
    }));
    app.get('/', (_, response) => response.redirect('/me')); // where the library returns to
    app.get('/me', (request, response) => response.json(request.oidc.user ?? {}));
  },

  // https://authjs.dev, for Express: a custom OpenID Connect provider.
  async 'auth.js'() {
    const { ExpressAuth, getSession } = await import('@auth/express');
    const config = {
      secret,
      trustHost: true,
      providers: [{ id: 'handstamp', name: 'Handstamp', type: 'oidc', issuer, clientId: clientID, clientSecret }],
    };
    app.set('trust proxy', true);
    app.use('/auth/*', ExpressAuth(config));
    app.get('/me', async (request, response) => response.json((await getSession(request, config))?.user ?? {}));
  },
};

await libraries[positionals[0]]();
app.listen(Number(settings.port), 'localhost', () => console.log(`listening on ${base}`));
