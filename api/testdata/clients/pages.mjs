// Chromium drives the hosted pages. Argument: {chromium, javaScript, shots, app, email, password, at: {name: address}}; shots is where pictures go, empty
// for none. It prints what became of each check: {"name": "" or what is wrong}. With a browser's script switched off everything must work as well; only form_post then needs a click.
import assert from "node:assert/strict";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { chromium: executablePath, javaScript, shots, app, email, password, at } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath });
const results = {};

// shoot looks at the page at the width of a phone and of a desktop: takes pictures in both colour schemes, and checks what can be measured.
const shoot = async (page, name) => {
  for (const [size, width, height] of [["phone", 390, 844], ["desktop", 1280, 800]]) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of shots ? ["light", "dark"] : []) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(shots, `${name}-${size}-${colorScheme}.png`), animations: "disabled" }); // not half-way between two colours
    }
    const faults = await page.evaluate(() => {
      const faults = [];
      if (document.documentElement.scrollWidth > innerWidth) faults.push(`wider than the window: ${document.documentElement.scrollWidth} > ${innerWidth}`);
      if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
      if (!document.documentElement.lang || !document.title) faults.push("no language or title");
      for (const input of document.querySelectorAll("input:not([type=hidden])")) if (!input.labels.length) faults.push(`#${input.id} has no label`);
      for (const one of document.querySelectorAll("button, .button, input:not([type=hidden])")) {
        if (one.hidden) continue;
        const { height } = one.getBoundingClientRect();
        if (height < 40) faults.push(`#${one.id} is ${height} px high, too small for a finger`);
      }
      for (const one of document.querySelectorAll("[id]")) if (document.querySelectorAll(`#${CSS.escape(one.id)}`).length > 1) faults.push(`#${one.id} twice`);
      for (const one of document.querySelectorAll("[src], link[href]")) {
        if (new URL(one.src ?? one.href, location).origin !== location.origin) faults.push(`third-party content ${one.src ?? one.href}`);
      }
      return faults;
    });
    assert.deepEqual(faults, [], `${name} at ${size} size`);
  }
  await page.setViewportSize({ width: 1280, height: 800 });
};

// check runs in a browser of its own. Errors on the console are failures, but for the line that says that an answer had an error's status.
const check = async (name, run, options = { locale: "en-GB" }) => {
  const context = await browser.newContext({ javaScriptEnabled: javaScript, ...options });
  context.setDefaultTimeout(20000);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    if (/^Failed to load resource: the server responded with a status of 4/.test(message.text())) return;
    problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  try {
    await run(page, context);
    assert.deepEqual(problems, []);
    results[name] = "";
  } catch (error) {
    results[name] = String(error.stack ?? error) + `\nat ${page.url()}\n${problems.join("\n")}`;
    if (shots) await page.screenshot({ path: join(shots, `failed-${name.replaceAll(/\W+/g, "-")}.png`) }).catch(() => {});
  } finally {
    await context.close();
  }
};

const logIn = async (page, address) => {
  await page.goto(address);
  await page.fill("#email", email);
  await page.fill("#password", password);
  await page.click("#login-submit");
};

// arrived is what the application was sent, by query or by form.
const arrived = async (page) => {
  await page.waitForURL((url) => url.origin === app);
  return JSON.parse(await page.textContent("#arrived"));
};

await check("login", async (page) => {
  await page.goto(at.login);
  await shoot(page, "login");
  await page.waitForSelector("#email:focus");
  await page.fill("#email", email);
  await page.fill("#password", password);
  await page.click("#login-submit");
  const answer = await arrived(page);
  assert.equal(answer.method, "GET");
  assert.ok(answer.code && answer.iss && answer.state === "some state", JSON.stringify(answer));
});

await check("login by keyboard alone", async (page) => {
  await page.goto(at.login);
  await page.waitForSelector("#email:focus");
  await page.keyboard.type(email);
  await page.keyboard.press("Tab");
  await page.keyboard.type(password);
  await page.keyboard.press("Enter");
  assert.ok((await arrived(page)).code);
});

await check("a password that is shown", async (page) => {
  await page.goto(at.login);
  await page.fill("#password", "secret");
  if (!javaScript) {
    assert.equal(await page.isVisible("#show-password"), false);
    return;
  }
  await page.click("#show-password");
  assert.equal(await page.getAttribute("#password", "type"), "text");
  assert.equal(await page.getAttribute("#show-password", "aria-pressed"), "true");
  await shoot(page, "password-shown");
  await page.click("#show-password");
  assert.equal(await page.getAttribute("#password", "type"), "password");
});

await check("confirm that it is you, and another user instead", async (page) => {
  await logIn(page, at.login);
  await arrived(page);
  await page.goto(at.again);
  assert.equal(await page.inputValue("#email"), email);
  assert.equal(await page.isEditable("#email"), false);
  await shoot(page, "confirm");
  await page.click("#different-account");
  assert.equal(await page.inputValue("#email"), "");
  await page.goto(at.again);
  await page.fill("#password", password);
  await page.click("#login-submit");
  assert.ok((await arrived(page)).code);
});

await check("wrong password", async (page) => {
  await page.goto(at.login);
  await page.fill("#email", email);
  await page.fill("#password", "not the password");
  await page.click("#login-submit");
  await page.waitForSelector("#error");
  assert.equal(await page.inputValue("#email"), email);
  assert.equal(await page.inputValue("#password"), "");
  await shoot(page, "wrong-password");
  await page.fill("#password", password);
  await page.click("#login-submit");
  assert.ok((await arrived(page)).code);
});

await check("sign-up", async (page) => {
  await page.goto(at.login);
  await page.click("#signup-link");
  await page.waitForSelector("form#signup");
  await shoot(page, "signup");
  const address = `new-${javaScript}-${Date.now()}@example.com`;
  await page.fill("#name", "Zoë <b>Ångström</b> 😀");
  await page.fill("#email", address);
  await page.fill("#password", "short");
  await page.click("#signup-submit");
  await page.waitForSelector("#error");
  await shoot(page, "signup-error");
  assert.equal(await page.inputValue("#email"), address);
  assert.equal(await page.inputValue("#name"), "Zoë <b>Ångström</b> 😀");
  await page.fill("#password", password);
  await page.click("#signup-submit");
  assert.ok((await arrived(page)).code);
});

await check("consent: deny, then allow, then not asked again", async (page) => {
  await logIn(page, at.consent);
  await page.waitForSelector("form#consent");
  await shoot(page, "consent");
  await page.click("#deny");
  assert.equal((await arrived(page)).error, "access_denied");
  await page.goto(at.consent);
  await page.click("#allow");
  assert.ok((await arrived(page)).code);
  await page.goto(at.consent);
  assert.ok((await arrived(page)).code);
});

await check("form_post", async (page) => {
  await logIn(page, at.formPost);
  if (!javaScript) {
    await page.waitForSelector("form#form-post");
    await shoot(page, "form-post");
    await page.click("#form-post-submit");
  }
  const answer = await arrived(page);
  assert.equal(answer.method, "POST");
  assert.ok(answer.code && answer.iss, JSON.stringify(answer));
});

// The last hop of each chain is what counts: a browser holds every redirection after a form to the policy of the form's page.
const lastHop = async (page) => {
  await page.waitForURL((url) => url.hostname === "127.0.0.1" && url.pathname === "/callback");
  return JSON.parse(await page.textContent("#arrived"));
};

await check("a callback that redirects to another origin", async (page) => {
  await logIn(page, at.chain);
  assert.ok((await lastHop(page)).code);
  await page.goto(at.chainOut);
  await page.click("#logout-submit");
  assert.equal((await lastHop(page)).state, "out");
  await page.goto(at.chain);
  await page.click("#signup-link");
  await page.fill("#email", `chain-${javaScript}-${Date.now()}@example.com`);
  await page.fill("#password", password);
  await page.click("#signup-submit");
  assert.ok((await lastHop(page)).code);
});

await check("a callback that redirects to another origin, by form_post", async (page) => {
  await logIn(page, at.chainPost);
  if (!javaScript) await page.click("#form-post-submit");
  await lastHop(page);
});

await check("tabs that open at the same time all get through", async (page, context) => {
  const tabs = [page, await context.newPage(), await context.newPage(), await context.newPage()];
  await Promise.all(tabs.map((tab) => tab.goto(at.login)));
  for (const tab of tabs) {
    await tab.fill("#email", email);
    await tab.fill("#password", password);
    await tab.click("#login-submit");
    assert.ok((await arrived(tab)).code);
  }
});

await check("a login that ends in an application's own scheme is not blocked", async (page) => {
  const asked = page.waitForRequest((request) => request.url().startsWith("com.example.app:"), { timeout: 2000 }).catch(() => null);
  await logIn(page, at.privateUse);
  await asked;
});

await check("continue as, and another user instead", async (page) => {
  await logIn(page, at.login);
  await arrived(page);
  await page.goto(at.select);
  await page.waitForSelector("form#continue");
  await shoot(page, "continue");
  await page.click("#different-account");
  await page.waitForSelector("form#login");
  await page.goto(at.select);
  await page.click("#continue-submit");
  assert.ok((await arrived(page)).code);
});

await check("CK-10 logout, and back shows nothing", async (page) => {
  await logIn(page, at.login);
  await arrived(page);
  await page.goto(at.select);
  assert.ok((await page.content()).includes(email));
  await page.goto(at.logout);
  await page.waitForSelector("form#logout");
  await shoot(page, "logout");
  assert.ok((await page.content()).includes(email));
  await page.click("#logout-submit");
  await page.waitForSelector("form#logout", { state: "detached" });
  await shoot(page, "logged-out");
  for (let step = 0; step < 4; step++) {
    await page.goBack({ timeout: 5000 }).catch(() => {});
    assert.ok(!(await page.content()).includes(email), `${step + 1} steps back, at ${page.url()}`);
  }
  await page.goto(at.select);
  await page.waitForSelector("form#login");
});

await check("error page", async (page) => {
  const answer = await page.goto(at.wrong);
  assert.equal(answer.status(), 400);
  await page.waitForSelector("#error");
  await shoot(page, "error");
});

await check("German, by the browser's setting", async (page) => {
  await page.goto(at.login);
  assert.equal(await page.getAttribute("html", "lang"), "de");
  await shoot(page, "login-german");
}, { locale: "de-AT" });

await check("text twice as large", async (page) => {
  await page.goto(at.login);
  await page.setViewportSize({ width: 390, height: 844 });
  await page.evaluate(() => { document.documentElement.style.zoom = "2"; });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth * 1.01));
});

await browser.close();
console.log(JSON.stringify(results));
