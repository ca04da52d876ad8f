// Chromium uses the page of docs/single-page-app.md. Argument: {chromium, app, password}.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { chromium: executablePath, app, password } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath });
const context = await browser.newContext();
context.setDefaultTimeout(20_000);
const page = await context.newPage();
const says = (tab, text) => tab.waitForFunction((text) => document.getElementById("who").textContent === text, text);
try {
  await page.goto(app);
  await says(page, "Nobody is logged in");
  await page.click("#login");
  await page.click("#signup-link");
  await page.fill("#email", "ann@example.com");
  await page.fill("#password", password);
  await page.click("#signup-submit");
  await says(page, "Hello ann@example.com");
  await page.reload();
  await says(page, "Hello ann@example.com");
  assert.equal((await page.evaluate(() => window.call())).email, "ann@example.com");
  const other = await context.newPage();
  await other.goto(app);
  await says(other, "Hello ann@example.com");
  await page.click("#logout");
  await says(page, "Nobody is logged in");
  await says(other, "Nobody is logged in");
  await other.click("#login");
  await says(other, "Hello ann@example.com"); // still logged in at the hosted pages
  await other.click("#everywhere");
  await says(page, "Nobody is logged in");
  console.log("{}");
} catch (error) {
  throw new Error(`at ${page.url()}: ${await page.textContent("body")}`, { cause: error });
} finally {
  await browser.close();
}
