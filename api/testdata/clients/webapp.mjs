// Chromium uses examples/web-app. Argument: {chromium, shots, app, issuer, email, password, roles}; roles is the command that makes the user an administrator,
// shots is where pictures go, empty for none. It prints what became of each check, in the order in which they build on each other: {"name": "" or what is wrong}.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { chromium: executablePath, shots, app, issuer, email, password, roles } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath });
const results = {};
const problems = [];

// open returns a page in a browser of its own. What the console says against is a failure, but for the status of an answer.
const open = async () => {
  const context = await browser.newContext({ locale: "en-GB" });
  context.setDefaultTimeout(20000);
  const page = await context.newPage();
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    if (!/^Failed to load resource: the server responded with a status of 4/.test(message.text())) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  return page;
};
const ann = await open();
const phone = await open();

const check = async (name, run) => {
  try {
    await run();
    assert.deepEqual(problems.splice(0), []);
    results[name] = "";
  } catch (error) {
    results[name] = String(error.stack ?? error) + `\nat ${ann.url()} and ${phone.url()}`;
  }
};

// shoot looks at the page at the width of a phone and of a desktop, in both colour schemes.
const shoot = async (page, name) => {
  for (const [size, width, height] of [["phone", 360, 740], ["desktop", 1280, 800]]) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      if (shots) await page.screenshot({ path: join(shots, `webapp-${name}-${size}-${colorScheme}.png`), animations: "disabled" });
      const faults = await page.evaluate(() => {
        const faults = [];
        if (document.documentElement.scrollWidth > innerWidth) faults.push(`wider than the window: ${document.documentElement.scrollWidth} > ${innerWidth}`);
        if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
        if (!document.documentElement.lang || !document.title) faults.push("no language or title");
        for (const one of document.querySelectorAll("textarea, input:not([type=hidden])")) if (!one.labels.length) faults.push(`#${one.id} has no label`);
        for (const one of document.querySelectorAll("button, .button")) {
          if (one.getBoundingClientRect().height < 40) faults.push(`${one.textContent} is too small for a finger`);
        }
        const lightness = (color) => color.match(/[\d.]+/g).slice(0, 3).reduce((sum, n) => sum + Number(n), 0);
        const style = getComputedStyle(document.body);
        const dark = matchMedia("(prefers-color-scheme: dark)").matches;
        if (lightness(style.color) > lightness(style.backgroundColor) !== dark) faults.push(`${style.color} on ${style.backgroundColor}`);
        return faults;
      });
      assert.deepEqual(faults, [], `${name} at ${size} size, ${colorScheme}`);
    }
  }
};

const logIn = async (page) => {
  if (await page.isEditable("#email").catch(() => false)) await page.fill("#email", email);
  await page.fill("#password", password);
  await page.click("#login-submit");
};

await check("sign up", async () => {
  await ann.goto(app);
  await shoot(ann, "welcome");
  await ann.click("text=Sign up");
  await ann.waitForURL((url) => url.origin === issuer);
  await ann.fill("#signup #email", email);
  await ann.fill("#signup #password", password);
  await ann.click("#signup button[type=submit], #signup-submit");
  await ann.waitForURL(app + "/notes");
});

await check("script finds nothing", async () => {
  const found = await ann.evaluate(() => ({
    cookie: document.cookie, local: localStorage.length, session: sessionStorage.length, tokens: /eyJ|hsr_/.test(document.documentElement.outerHTML),
  }));
  assert.deepEqual(found, { cookie: "", local: 0, session: 0, tokens: false });
  const { httpOnly, sameSite, path } = (await ann.context().cookies(app)).find(({ name }) => name === "web_app");
  assert.deepEqual({ httpOnly, sameSite, path }, { httpOnly: true, sameSite: "Lax", path: "/" });
  assert.deepEqual((await ann.context().cookies(app)).filter(({ name }) => name.includes("-login-")), []);
});

await check("a form", async () => {
  await ann.fill("#text", "buy <b>ink</b>");
  await ann.click("#note button");
  await ann.waitForSelector("#notes li");
  assert.match(await ann.textContent("#notes li"), /buy <b>ink<\/b>/);
  await shoot(ann, "notes");
});

await check("forged forms", async () => {
  const without = await ann.context().request.post(app + "/notes", { form: { text: "forged" }, headers: { origin: app } });
  assert.equal(without.status(), 403);
  const token = await ann.inputValue("#note [name=csrf_token]");
  // From another origin of the same site, to which SameSite cookies go along.
  const other = await ann.context().newPage();
  await other.goto(issuer + "/");
  const answers = [];
  other.on("response", (response) => response.url() === app + "/notes" && answers.push(response.status()));
  await other.evaluate(async ([address, token]) => {
    await fetch(address, { method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({ text: "forged", csrf_token: token }) });
  }, [app + "/notes", token]).catch(() => {}); // that page's policy may stop it
  for (const status of answers) assert.equal(status, 403);
  await other.close();
  problems.splice(0); // which that policy reports
  await ann.reload();
  assert.doesNotMatch(await ann.textContent("main"), /forged/);
});

await check("a role", async () => {
  const refused = await ann.goto(app + "/admin");
  assert.equal(refused.status(), 403);
  assert.match(await ann.textContent("#error"), /may not/);
  execFileSync(roles[0], roles.slice(1));
  const begin = Date.now();
  let answer;
  do answer = await ann.goto(app + "/admin");
  while (answer.status() !== 200 && Date.now() - begin < 20000);
  assert.equal(answer.status(), 200);
  assert.match(await ann.textContent("#roles"), /admin/);
  await shoot(ann, "admin");
});

await check("step up", async () => {
  await ann.goto(app + "/vault");
  const before = await ann.getAttribute("#auth-time", "datetime");
  const cookie = (await ann.context().cookies(app)).find(({ name }) => name === "web_app").value;
  await shoot(ann, "vault");
  await ann.click("#again");
  await ann.waitForURL((url) => url.origin === issuer);
  await logIn(ann);
  await ann.waitForURL(app + "/vault");
  assert.ok((await ann.getAttribute("#auth-time", "datetime")) > before);
  assert.notEqual((await ann.context().cookies(app)).find(({ name }) => name === "web_app").value, cookie);
});

await check("devices", async () => {
  await phone.goto(app + "/notes");
  await logIn(phone);
  await phone.waitForURL(app + "/notes");
  await ann.goto(app + "/devices");
  assert.equal(await ann.locator("#devices li").count(), 2);
  await shoot(ann, "devices");
  await ann.click("#devices button");
  await ann.waitForURL(app + "/devices");
  assert.equal(await ann.locator("#devices li").count(), 1);
  await phone.goto(app + "/");
  await phone.waitForSelector("#login");
});

await check("log out", async () => {
  await ann.click("#logout button");
  await ann.waitForURL(app + "/");
  await ann.waitForSelector("#login");
  await ann.goBack();
  assert.doesNotMatch(await ann.content(), /This browser/); // not out of the cache
  await ann.goto(app + "/notes");
  await ann.waitForURL((url) => url.origin === issuer);
  await ann.waitForSelector("#password"); // the issuer has logged out, too
});

await browser.close();
console.log(JSON.stringify(results));
