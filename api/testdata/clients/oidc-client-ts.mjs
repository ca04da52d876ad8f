// A person uses the single-page application: login, silent renewal by refresh token, logout. Argument: {chromium, address, issuer, email, password}.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { chromium: executablePath, address, issuer, email, password } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath });
const page = await browser.newPage();
const problems = [];
page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
page.on("pageerror", (error) => problems.push(String(error)));
const user = async (pattern) => {
  await page.waitForFunction((source) => new RegExp(source).test(document.getElementById("user")?.textContent), pattern);
  return page.textContent("#user");
};
try {
  await page.goto(address);
  await user("^nobody");
  await page.click("#login");
  await page.fill("#email", email);
  await page.fill("#password", password);
  await page.click("#login-submit");
  const first = await user(`^${email} `);

  await page.click("#renew");
  await page.waitForFunction((before) => document.getElementById("user").textContent !== before, first);
  const second = await user(`^${email} `);
  assert.notEqual(second, first);

  await page.reload();
  assert.equal(await user(`^${email} `), second);

  await page.click("#logout");
  await page.waitForURL(`${address}/`);
  await user("^nobody");
  await page.click("#login");
  await page.waitForSelector("form#login"); // the browser is logged out at the service as well
  assert.ok(page.url().startsWith(issuer));
  assert.deepEqual(problems.filter((text) => !text.includes("favicon")), []);
  console.log("{}");
} finally {
  await browser.close();
}
