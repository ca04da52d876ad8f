// https://github.com/manfredsteyer/angular-oauth2-oidc: code flow with standalone components, compiled in the browser.
import '@angular/compiler';
import { provideHttpClient } from '@angular/common/http';
import { Component, inject, provideZonelessChangeDetection } from '@angular/core';
import { bootstrapApplication } from '@angular/platform-browser';
import { OAuthService, provideOAuthClient } from 'angular-oauth2-oidc';
import { offer, refreshed } from './page.mjs';

declare const ISSUER: string, CLIENT_ID: string;

@Component({ selector: 'app-root', template: '' })
class App {
  private service = inject(OAuthService);

  constructor() {
    this.begin();
  }

  async begin() {
    const service = this.service;
    service.configure({
      issuer: ISSUER,
      redirectUri: window.location.origin + '/index.html',
      clientId: CLIENT_ID,
      responseType: 'code',
      scope: 'openid profile email offline_access',
    });
    await service.loadDiscoveryDocumentAndTryLogin();
    const tokens = () => ({ access: service.getAccessToken(), id: service.getIdToken() });
    offer(service.hasValidIdToken() && service.getIdentityClaims(), {
      login: () => service.initCodeFlow(),
      async refresh() {
        const before = tokens();
        await service.refreshToken();
        refreshed(before, tokens());
      },
      logout: () => service.logOut(),
    });
  }
}

await bootstrapApplication(App, { providers: [provideZonelessChangeDetection(), provideHttpClient(), provideOAuthClient()] });
