// Chromium plays with the demo. Argument: {chromium, demo, shots}; shots is where pictures go, empty for none.
import assert from "node:assert/strict";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { chromium: executablePath, demo, shots } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath });
const context = await browser.newContext({ locale: "en-GB" });
context.setDefaultTimeout(20000);
const page = await context.newPage();
const problems = [];
page.on("console", (message) => {
  if (message.type() !== "error" && message.type() !== "warning") return;
  if (/^Failed to load resource: the server responded with a status of 4/.test(message.text())) return;
  problems.push(message.text());
});
page.on("pageerror", (error) => problems.push(String(error)));

const shoot = async (name) => {
  for (const [size, width] of [["phone", 360], ["desktop", 1280]]) {
    await page.setViewportSize({ width, height: 800 });
    for (const colorScheme of shots ? ["light", "dark"] : []) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(shots, `demo-${name}-${size}-${colorScheme}.png`), animations: "disabled", fullPage: true });
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${name} is ${wide} px wider than ${size}`);
    const unnamed = await page.evaluate(() => [...document.querySelectorAll("input")].filter((i) => !i.labels.length).length);
    assert.equal(unnamed, 0, "inputs without a label");
  }
};

// says waits for an event of the timeline.
const says = async (text) => {
  try {
    await page.waitForSelector(`#line strong:text("${text}")`);
  } catch (error) {
    throw new Error(`the page never said ${text}; it says:\n${await page.locator("#line").innerText()}\n${await page.locator("#error").innerText()}`, { cause: error });
  }
};

await page.goto(demo);
await page.waitForSelector("#out:visible");
await shoot("out");
await page.click("button[value=signup]");
await says("Logged in");
await page.click("#call");
await says("The API answered");
await page.click("#refresh");
await says("Refreshed");
await page.click("#many");
await says("20 tabs at once: 20 have a token, nobody is logged out");
await page.reload();
await says("Still logged in");
assert.equal(await page.evaluate(() => document.cookie), "", "a script reads a cookie");

await page.fill("#phone-login input", "violet-otter-93");
await page.click("#phone-login button");
await says("The phone is logged in");
await page.click("#phone-refresh");
await says("The phone refreshed");
await page.click("#phone-lost");
await says("The lost answer was repeated");
await page.click("#steal");
await says("The thief refreshed");
await page.click("#found");
await says("Theft found: two parties use one token");
await says("Refused by the API after");
await says("The thief is out");
await shoot("theft");

await page.click("#phone-login button");
await page.waitForSelector("#phone-buttons:visible");
await page.click("#phone-end");
await says("Ended the session of the phone");
await says("The phone is logged out");
await page.click("#phone-login button");
await page.waitForSelector("#phone-buttons:visible");
await page.click("#everywhere");
await says("The phone is logged out, too");
await page.waitForSelector("#out:visible");

await page.click("#hosted");
await page.waitForSelector("form#login");
await page.goBack();
await page.waitForSelector("#out:visible");
assert.deepEqual(problems, []);
const refused = await page.locator('#line strong:text("Refused by the API after")').allInnerTexts();
console.log(JSON.stringify({ refused }));
await browser.close();
