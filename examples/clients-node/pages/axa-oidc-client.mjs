// https://github.com/AxaFrance/oidc-client, the code of the demo, without the service worker.
import { OidcClient } from '@axa-fr/oidc-client';
import { offer, refreshed } from './page.mjs';

const configuration = {
  client_id: CLIENT_ID,
  redirect_uri: `${window.location.origin}/authentication/callback`,
  silent_redirect_uri: `${window.location.origin}/authentication/silent-callback`,
  scope: 'openid profile email offline_access',
  authority: ISSUER,
};
const client = OidcClient.getOrCreate()(configuration);
await client.tryKeepExistingSessionAsync();
if (window.location.href.includes(configuration.redirect_uri)) {
  await client.loginCallbackAsync();
  window.location.href = '/';
} else {
  const tokens = () => ({ access: client.tokens.accessToken, id: client.tokens.idToken });
  offer(client.tokens?.idTokenPayload, {
    login: () => client.loginAsync('/'),
    async refresh() {
      const before = tokens();
      await client.renewTokensAsync();
      refreshed(before, tokens());
    },
    logout: () => client.logoutAsync('/'),
  });
}
