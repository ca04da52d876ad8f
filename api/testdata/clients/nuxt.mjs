// Chromium uses examples/nuxt. Argument: {chromium, shots, app, issuer, roles, page}; roles is the command that sets the roles of ann@example.com, shots is
// where pictures go, empty for none. page says that the provider has a page where people say who they are, and that everything is tried; without it,
// only a login and a logout are. It prints what became of each check, in the order in which they build on each other: {"name": "" or what is wrong}.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { join } from "node:path";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const { chromium: executablePath, shots, app, issuer, roles, page: hasPage } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath });
const results = {};
const problems = [];

// open returns a page in a browser of its own. What the console says against is a failure, but for the status of an answer.
const open = async (options) => {
  const context = await browser.newContext({ locale: "en-GB", ...options });
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
const plain = await open({ javaScriptEnabled: false });

const check = async (name, run) => {
  try {
    await run();
    assert.deepEqual(problems.splice(0), []);
    results[name] = "";
  } catch (error) {
    results[name] = String(error.stack ?? error) + `\nat ${ann.url()} and ${plain.url()}`;
  }
};

// shoot looks at the page at the width of a phone and of a desktop, in both colour schemes.
const shoot = async (page, name) => {
  for (const [size, width, height] of [["phone", 360, 740], ["desktop", 1280, 800]]) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      if (shots) await page.screenshot({ path: join(shots, `nuxt-${name}-${size}-${colorScheme}.png`), animations: "disabled" });
      const faults = await page.evaluate(() => {
        const faults = [];
        if (document.documentElement.scrollWidth > innerWidth) faults.push(`wider than the window: ${document.documentElement.scrollWidth} > ${innerWidth}`);
        if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
        if (!document.documentElement.lang || !document.title) faults.push("no language or title");
        for (const one of document.querySelectorAll("textarea, input:not([type=hidden])")) if (!one.labels.length) faults.push(`#${one.id} has no label`);
        for (const one of document.querySelectorAll("button, nav a, a.button")) {
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

// logIn begins at the application, says at the provider who it is, and comes back to Nuxt.
const logIn = async (page, email) => {
  await page.goto(app);
  await page.click("#provider");
  if (hasPage) {
    await page.waitForSelector("text=Example ID");
    assert.ok(![app, issuer].includes(new URL(page.url()).origin), `${page.url()} is the provider's`);
    await page.fill("#email", email);
    await page.click("button");
  }
  await page.waitForURL(app + "/notes");
  await page.waitForSelector("#add");
};

// hydrated waits until Nuxt has taken the page over, so that links and buttons are script's.
const hydrated = (page) => page.waitForFunction(() => document.querySelector("#__nuxt")?.__vue_app__?.$nuxt?.isHydrating === false);

const noTokens = async (page) => {
  // Vue's router keeps scroll positions in sessionStorage.
  const found = await page.evaluate(() => ({
    cookie: document.cookie, local: localStorage.length,
    tokens: /eyJ|hsr_/.test(document.documentElement.outerHTML + JSON.stringify(sessionStorage)),
  }));
  assert.deepEqual(found, { cookie: "", local: 0, tokens: false });
};

await check("log in at the provider", async () => {
  await ann.goto(app);
  await hydrated(ann);
  await shoot(ann, "welcome");
  await logIn(ann, "ann@example.com");
  await hydrated(ann);
  await noTokens(ann);
  const { httpOnly, sameSite, path } = (await ann.context().cookies(app)).find(({ name }) => name === "nuxt_session");
  assert.deepEqual({ httpOnly, sameSite, path }, { httpOnly: true, sameSite: "Lax", path: "/" });
});

const addNote = async (page, text) => {
  await page.goto(app + "/notes");
  await page.fill("#text", text);
  await page.click("#add button");
  await page.waitForSelector(`#notes li:has-text("${text}")`);
};

const everything = {
  "a form": async () => {
    await addNote(ann, "buy <b>ink</b>");
    await addNote(ann, "water the fern");
    const { body, status } = await ann.context().request.get(app + "/notes").then(async (answer) => ({ body: await answer.text(), status: answer.status() }));
    assert.equal(status, 200);
    assert.match(body, /buy &lt;b&gt;ink/, "Nuxt's server has rendered the notes");
    await shoot(ann, "notes");
  },
  "a form without script": async () => {
    await logIn(plain, "ben@example.com");
    await addNote(plain, "of Ben");
    assert.doesNotMatch(await plain.textContent("#notes"), /fern/);
  },
  "a call by script": async () => {
    await hydrated(ann);
    const [request] = await Promise.all([
      ann.waitForRequest((request) => request.method() === "DELETE"),
      ann.click("#notes li:has-text('fern') button"),
    ]);
    assert.ok(request.headers()["x-csrf-token"]);
    await ann.waitForFunction(() => !document.querySelector("#notes").textContent.includes("fern"));
  },
  "forged requests": async () => {
    const bare = await ann.evaluate(async () => (await fetch("/api/notes", { method: "POST", body: new URLSearchParams({ text: "forged" }) })).status);
    assert.equal(bare, 403, "a form without token");
    const wrong = await ann.evaluate(async () => (await fetch("/api/notes/1", { method: "DELETE", headers: { "x-csrf-token": "x" } })).status);
    assert.equal(wrong, 403, "a call with a wrong token");
    // Pages of another site, and of another origin of the same site, to which the cookie goes along. Both even have the token.
    const token = await ann.inputValue("#add [name=csrf_token]");
    const evil = createServer((_, response) => {
      response.setHeader("content-type", "text/html");
      response.end(`<!doctype html><title>Evil</title><link rel="icon" href="data:,"><form method="post" action="${app}/api/notes">` +
        `<input name="text" value="forged"><input name="csrf_token" value="${token}"><button>Win a prize</button></form>`);
    }).listen(0, "127.0.0.1");
    await once(evil, "listening");
    try {
      for (const host of ["localhost", "127.0.0.1"]) {
        const page = await ann.context().newPage();
        await page.goto(`http://${host}:${evil.address().port}/`);
        const [answer] = await Promise.all([
          page.waitForResponse((response) => response.request().method() === "POST"),
          page.click("button"),
        ]);
        const cookie = (await answer.request().allHeaders()).cookie ?? "";
        assert.equal(cookie.includes("nuxt_session"), host === "127.0.0.1", `the cookie of a form from ${host}`);
        assert.equal(answer.status(), 403, `a form from ${host}`);
        await page.close();
      }
    } finally {
      evil.close();
      evil.closeAllConnections();
    }
    await ann.reload();
    assert.doesNotMatch(await ann.textContent("#notes"), /forged/);
  },
  "script slipped into a page": async () => {
    const ran = await ann.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.slipped = true";
      document.body.append(script);
      return "slipped" in window;
    });
    assert.equal(ran, false);
    assert.match(problems.splice(0).join(), /Content Security Policy/);
  },
  "a role": async () => {
    const status = () => ann.evaluate(async () => (await fetch("/api/admin/people")).status);
    const becomes = async (wanted, ...names) => {
      await promisify(execFile)(roles[0], [...roles.slice(1), ...names]);
      const begin = performance.now();
      while (await status() !== wanted) assert.ok(performance.now() - begin < 1000, `${wanted} within a second`);
      console.error(`${wanted} after ${Math.round(performance.now() - begin)} ms`);
    };
    assert.equal(await status(), 403);
    assert.equal((await ann.goto(app + "/admin")).status(), 403);
    assert.match(await ann.textContent("#error"), /not for you/);
    await hydrated(ann);
    await shoot(ann, "refused");
    await becomes(200, "admin");
    assert.equal((await ann.goto(app + "/admin")).status(), 200);
    assert.match(await ann.textContent("#people"), /ann@example.com/);
    await hydrated(ann);
    await shoot(ann, "admin");
    await ann.click("text=My notes"); // without loading a page
    await ann.waitForSelector("#add");
    await becomes(403);
    await ann.click("#to-admin");
    await ann.waitForSelector("#error");
    assert.equal((await ann.goto(app + "/admin")).status(), 403);
  },
  "an address that is not there": async () => {
    assert.equal((await ann.goto(app + "/nothing")).status(), 404);
    assert.match(await ann.textContent("#error"), /no such page/);
    await hydrated(ann);
  },
};
if (hasPage) for (const [name, run] of Object.entries(everything)) await check(name, run);

await check("log out", async () => {
  await ann.goto(app + "/notes");
  await ann.click("#logout button");
  await ann.waitForURL(app + "/");
  await ann.waitForSelector("#login");
  await ann.goBack();
  await ann.waitForFunction(() => document.readyState === "complete");
  assert.equal(await ann.locator("#logout").count(), 0); // not out of the cache
  await ann.goto(app + "/notes");
  await ann.waitForURL((url) => url.origin === issuer);
  await ann.waitForSelector("#password"); // the service has logged out, too
});

await browser.close();
console.log(JSON.stringify(results));
