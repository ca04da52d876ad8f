// Chromium uses examples/spa-react. Argument: {chromium, app, issuer, password}.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { chromium: executablePath, app, issuer, password } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath });
const context = await browser.newContext();
context.setDefaultTimeout(20_000);
const page = await context.newPage();
const problems = [];
page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
page.on("pageerror", (error) => problems.push(String(error)));
try {
  await page.goto(`${app}/orders?page=2`);
  await page.click("#login");
  await page.waitForURL((url) => url.origin === issuer);
  await page.click("#signup-link");
  await page.fill("#email", "ann@example.com");
  await page.fill("#password", password);
  await page.click("#signup-submit");
  await page.waitForSelector("#user");
  assert.equal(await page.textContent("#user"), "ann@example.com");
  assert.equal(page.url(), `${app}/orders?page=2`);
  await page.reload();
  await page.click("#devices");
  await page.waitForSelector("#device-list li");
  assert.match(await page.textContent("#device-list"), /Chrom/);
  const other = await context.newPage();
  await other.goto(app);
  await other.waitForSelector("#user");
  await page.click("#logout-everywhere");
  await page.waitForSelector("#login");
  await other.waitForSelector("#login");
  await other.reload();
  await other.waitForSelector("#login");
  assert.deepEqual(problems, []);
  console.log("{}");
} catch (error) {
  throw new Error(`at ${page.url()}: ${await page.textContent("body")}\n${problems.join("\n")}`, { cause: error });
} finally {
  await browser.close();
}
