// A person uses an application behind a gateway in Chromium, over TLS, at neighbours of the issuer. Argument: {chromium, app, neighbour, issuer, hosts, email, password}.
// The application answers every request with a page that says whom the gateway has told it of, and with JSON at /api. neighbour is another origin of the same site.
import assert from "node:assert/strict";
import { chromium } from 'playwright-core';

const { chromium: executablePath, app, neighbour, issuer, hosts, email, password } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath, args: [`--host-resolver-rules=MAP *.x.test ${hosts}`] });
const context = await browser.newContext({ ignoreHTTPSErrors: true }); // the test's certificate is nobody's
context.setDefaultTimeout(20000);
const page = await context.newPage();
const seen = async (where) => JSON.parse(await where.textContent('#seen'));
const call = (where, method = 'GET', address = '/api') => where.evaluate(async ([to, how]) => {
  try {
    const response = await fetch(to, { method: how, credentials: 'include', redirect: 'manual' });
    return response.status || response.type;
  } catch (error) {
    return String(error);
  }
}, [address, method]);
const logIn = async (where) => {
  await where.waitForURL((url) => url.origin === issuer);
  await where.fill('#email', email);
  await where.fill('#password', password);
  await where.click('#login-submit');
};
try {
  // Two tabs, opened at the same time, and each comes back to where it was.
  const other = await context.newPage();
  await Promise.all([page.goto(`${app}/reports?year=2026&q=%C3%A9`), other.goto(`${app}/other#part`)]);
  await logIn(page);
  await page.waitForURL(`${app}/reports?year=2026&q=%C3%A9`);
  const first = await seen(page);
  assert.match(first.subject, /^usr_/);
  assert.equal(first.client, 'app');
  await logIn(other);
  await other.waitForURL((url) => url.origin === app && url.pathname === '/other');
  assert.equal((await seen(other)).subject, first.subject);

  // The cookie is out of reach of script, and of neighbours.
  const cookies = (await context.cookies(app)).filter(({ name }) => name.startsWith('__Host-hs_gw_'));
  assert.equal(cookies.length, 1);
  assert.deepEqual([cookies[0].httpOnly, cookies[0].secure, cookies[0].sameSite, cookies[0].domain], [true, true, 'Lax', 'app.x.test']);
  assert.equal(await page.evaluate(() => document.cookie), '');

  // Reload, and calls of the page.
  await page.reload();
  assert.equal((await seen(page)).subject, first.subject);
  await page.goto(`${app}/reports`);
  assert.equal(await call(page), 200);
  assert.equal(await call(page, 'POST'), 200);

  // A form of the page posts; a page of a neighbour cannot, though the browser sends the cookie along.
  await page.click('#post');
  assert.equal((await seen(page)).method, 'POST');
  const stranger = await context.newPage();
  await stranger.goto(`${neighbour}/`);
  const [answer] = await Promise.all([
    stranger.waitForResponse((response) => response.url().startsWith(`${app}/transfer`)),
    stranger.evaluate((to) => {
      const form = document.createElement('form');
      form.method = 'post';
      form.action = `${to}/transfer`;
      document.body.append(form);
      form.submit();
    }, app),
  ]);
  assert.match((await answer.request().allHeaders()).cookie, /__Host-hs_gw_/);
  assert.equal(answer.status(), 403);

  // Logged out at the issuer: calls get 401 and no redirection, and a person the login page.
  const out = await context.newPage();
  await out.goto(`${issuer}/oauth2/logout?client_id=app`);
  await out.click('#logout-submit');
  await out.waitForLoadState();
  const ended = Date.now();
  await page.goto('about:blank');
  await other.bringToFront();
  let status;
  while ((status = await call(other)) !== 401 && Date.now() - ended < 10000);
  assert.equal(status, 401);
  console.log(`refused ${Date.now() - ended} ms after the logout`);
  await page.goto(`${app}/again`);
  await logIn(page);
  await page.waitForURL(`${app}/again`);
  const second = await seen(page);
  assert.equal(second.subject, first.subject);
  assert.notEqual(second.session, first.session);
} catch (error) {
  console.error(`at ${page.url()}\n${await page.content().catch(() => '')}`);
  throw error;
} finally {
  await browser.close();
}
