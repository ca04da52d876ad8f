// An application that logs its users in at Handstamp: node server.mjs LIBRARY --issuer URL --client-id ID --client-secret SECRET --port PORT
//
// GET /login logs in, GET /me shows who is logged in, as the library tells, GET /refresh asks for new tokens where the library does, and GET /logout logs
// out. Each library is set up as its own guide has it. Libraries for browsers have a page with buttons for the same, in pages.
import express from 'express';
import { randomBytes } from 'node:crypto';
import { access } from 'node:fs/promises';
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
    app.get('/logout', (_, response) => {
      const hint = tokens;
      tokens = undefined;
      response.redirect(client.endSessionUrl({ id_token_hint: hint, post_logout_redirect_uri: `${base}/me` }));
    });
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
      idpLogout: true,
      authorizationParams: { response_type: 'code', scope: 'openid profile email' },
    }));
    app.get('/', (_, response) => response.redirect('/me')); // where the library returns to
    app.get('/me', (request, response) => response.json(request.oidc.user ?? {}));
    app.get('/refresh', async (request, response, next) => {
      try {
        const before = request.oidc.accessToken.access_token;
        differ(before, (await request.oidc.accessToken.refresh()).access_token);
        response.redirect('/me');
      } catch (error) {
        next(error);
      }
    });
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

  // https://next-auth.js.org, version 4: a custom provider by its metadata, and the API route that Next.js would serve.
  async 'next-auth'() {
    process.env.NEXTAUTH_URL = base;
    const { default: NextAuth, getServerSession } = (await import('next-auth')).default;
    const options = {
      secret,
      providers: [{
        id: 'handstamp',
        name: 'Handstamp',
        type: 'oauth',
        wellKnown: `${issuer}/.well-known/openid-configuration`,
        authorization: { params: { scope: 'openid email profile' } },
        idToken: true,
        checks: ['pkce', 'state'],
        clientId: clientID,
        clientSecret,
        profile: (profile) => ({ id: profile.sub, name: profile.name, email: profile.email, image: profile.picture }),
      }],
    };
    app.use(express.urlencoded({ extended: true }), cookies);
    app.all('/api/auth/*', (request, response) => {
      request.query.nextauth = request.params[0].split('/');
      return NextAuth(request, response, options);
    });
    app.get('/me', async (request, response) => response.json((await getServerSession(request, response, options))?.user ?? {}));
  },

  // https://www.passportjs.org/packages/passport-openidconnect: the README, with the endpoints by hand, as it wants them.
  async 'passport-openidconnect'() {
    const { default: passport } = await import('passport');
    const { default: Strategy } = await import('passport-openidconnect');
    const { default: session } = await import('express-session');
    app.use(session({ secret, resave: false, saveUninitialized: false }));
    app.use(passport.session());
    passport.serializeUser((user, done) => done(null, user));
    passport.deserializeUser((user, done) => done(null, user));
    passport.use(new Strategy({
      issuer,
      authorizationURL: `${issuer}/oauth2/authorize`,
      tokenURL: `${issuer}/oauth2/token`,
      userInfoURL: `${issuer}/oauth2/userinfo`,
      clientID,
      clientSecret,
      callbackURL: `${base}/callback`,
      scope: ['profile', 'email'],
    }, (_, profile, done) => done(null, profile)));
    app.get('/login', passport.authenticate('openidconnect'));
    app.get('/callback', passport.authenticate('openidconnect', { failureRedirect: '/failed', failureMessage: true }),
      (_, response) => response.redirect('/me'));
    app.get('/failed', (request, response) => response.status(500).json(request.session.messages));
    app.get('/me', (request, response) => response.json(request.user ?? {}));
    app.get('/logout', (request, response, next) => request.logout((error) => error ? next(error) : response.redirect('/me')));
  },

  // https://github.com/lelylan/simple-oauth2: the authorization code flow. It knows nothing of OpenID Connect, so that the user comes from userinfo.
  async 'simple-oauth2'() {
    const { AuthorizationCode } = await import('simple-oauth2');
    const client = new AuthorizationCode({
      client: { id: clientID, secret: clientSecret },
      auth: { tokenHost: issuer, tokenPath: '/oauth2/token', revokePath: '/oauth2/revoke', authorizePath: '/oauth2/authorize' },
    });
    const redirect = `${base}/callback`;
    const handle = (run) => (request, response, next) => run(request, response).catch((error) => next(error.data?.payload ? new Error(JSON.stringify(error.data.payload)) : error));
    let state, token;
    const userinfo = () => fetch(`${issuer}/oauth2/userinfo`, { headers: { authorization: `Bearer ${token.token.access_token}` } });
    app.get('/login', (_, response) => {
      state = randomBytes(16).toString('hex');
      response.redirect(client.authorizeURL({ redirect_uri: redirect, scope: ['openid', 'profile', 'email'], state }));
    });
    app.get('/callback', handle(async (request, response) => {
      if (request.query.state !== state) throw new Error(`another state: ${request.originalUrl}`);
      if (!request.query.code) throw new Error(request.originalUrl);
      token = await client.getToken({ code: request.query.code, redirect_uri: redirect });
      response.redirect('/me');
    }));
    app.get('/me', handle(async (_, response) => response.json(token ? await (await userinfo()).json() : {})));
    app.get('/refresh', handle(async (_, response) => {
      const before = token.token.access_token;
      token = await token.refresh();
      differ(before, token.token.access_token);
      response.redirect('/me');
    }));
    app.get('/logout', handle(async (_, response) => {
      await token.revokeAll(); // first the access token, then the refresh token
      response.redirect('/me');
    }));
  },
};

// differ makes sure that a refresh gave another token.
function differ(before, after) {
  if (!after || before === after) throw new Error('the refresh gave no new access token');
}

// cookies is what Next.js does with them.
function cookies(request, _, next) {
  request.cookies = Object.fromEntries((request.headers.cookie ?? '').split('; ').filter(Boolean).map((pair) => {
    const at = pair.indexOf('=');
    return [pair.slice(0, at), decodeURIComponent(pair.slice(at + 1))];
  }));
  next();
}

// page serves the page of a library for browsers.
async function page(name) {
  const { build } = await import('esbuild');
  const { outputFiles: [script] } = await build({
    entryPoints: [await access(`pages/${name}.ts`).then(() => `pages/${name}.ts`, () => `pages/${name}.mjs`)],
    bundle: true,
    format: 'esm',
    write: false,
    define: { ISSUER: JSON.stringify(issuer), CLIENT_ID: JSON.stringify(clientID), BASE: JSON.stringify(base) },
    tsconfigRaw: { compilerOptions: { experimentalDecorators: true } },
  });
  app.get('/page.js', (_, response) => response.type('js').send(script.text));
  app.get('*', (_, response) => response.send(`<!doctype html><html lang="en"><title>${name}</title><link rel="icon" href="data:,">
<p id="me"></p><p id="refreshed"></p>
<button id="login">log in</button><button id="refresh">refresh</button><button id="logout">log out</button><app-root></app-root>
<script type="module" src="/page.js"></script>`));
}

await (libraries[positionals[0]] ?? page)(positionals[0]);
app.listen(Number(settings.port), 'localhost', () => console.log(`listening on ${base}`));
