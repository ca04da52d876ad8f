// https://github.com/AzureAD/microsoft-authentication-library-for-js, lib/msal-browser: login by redirect with a provider that is not Entra.
import { ProtocolMode, PublicClientApplication } from '@azure/msal-browser';
import { offer, refreshed } from './page.mjs';

const msal = new PublicClientApplication({
  auth: {
    clientId: CLIENT_ID,
    authority: ISSUER,
    knownAuthorities: [new URL(ISSUER).host],
    redirectUri: `${BASE}/`,
    postLogoutRedirectUri: `${BASE}/`,
  },
  system: { protocolMode: ProtocolMode.OIDC },
});
await msal.initialize();
const answer = await msal.handleRedirectPromise();
const account = answer?.account ?? msal.getAllAccounts()[0];
if (account) msal.setActiveAccount(account);
const scopes = ['openid', 'profile', 'email'];
offer(account?.idTokenClaims, {
  login: () => msal.loginRedirect({ scopes }),
  async refresh() {
    const before = await msal.acquireTokenSilent({ scopes });
    const after = await msal.acquireTokenSilent({ scopes, forceRefresh: true });
    refreshed({ access: before.accessToken, id: before.idToken }, { access: after.accessToken, id: after.idToken });
  },
  logout: () => msal.logoutRedirect(),
});
