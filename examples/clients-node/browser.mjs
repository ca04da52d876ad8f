// A person uses an application in Chromium: login, tokens anew, reload, logout. Argument: {chromium, address, issuer, email, name, password, refreshes,
// remembers, asks}. refreshes: the library has a refresh token. remembers: the library still knows who is logged in when the page is loaded again. asks: the service asks whether to log out.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const { chromium: executablePath, address, issuer, email, name, password, refreshes, remembers, asks } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath });
const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage(); // the test's certificate is nobody's
page.setDefaultTimeout(20000);
const problems = [];
page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
page.on('pageerror', (error) => problems.push(String(error)));
const me = async (pattern) => {
  await page.waitForFunction(() => document.getElementById('me')?.textContent);
  await page.waitForFunction((source) => new RegExp(source).test(document.getElementById('me')?.textContent), pattern);
};
try {
  await page.goto(address);
  await me('^nobody$');
  await page.click('#login');
  await page.fill('#email', email);
  await page.fill('#password', password);
  await page.click('#login-submit');
  await me(`"email":"${email}"`);
  await me(`"name":"${name}"`);

  if (refreshes) {
    await page.click('#refresh');
    await page.waitForFunction(() => document.getElementById('refreshed').textContent === 'new tokens');
  }
  if (remembers) {
    await page.reload();
    await me(`"email":"${email}"`);
  }

  await page.click('#logout');
  if (asks) await page.click('#logout-submit');
  await page.waitForURL((url) => url.origin === address);
  await me('^nobody$');
  await page.click('#login');
  await page.waitForSelector('form#login'); // the browser is logged out at the service as well
  assert.ok(page.url().startsWith(issuer));
  assert.deepEqual(problems, []);
} catch (error) {
  const text = await page.textContent('body').catch(() => '');
  console.error(`${error.stack}\nat ${page.url()}\n${text}\n${problems.join('\n')}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
