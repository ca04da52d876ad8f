// https://www.keycloak.org/securing-apps/javascript-adapter, for a provider that is not Keycloak: oidcProvider. It reads refresh tokens as JWTs, so that its
// client has none.
import Keycloak from 'keycloak-js';
import { offer } from './page.mjs';

const keycloak = new Keycloak({ clientId: CLIENT_ID, oidcProvider: ISSUER });
await keycloak.init({ checkLoginIframe: false, scope: 'openid profile email' });
offer(keycloak.authenticated && keycloak.idTokenParsed, { login: () => keycloak.login(), logout: () => keycloak.logout() });
