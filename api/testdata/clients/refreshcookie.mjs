// Chromium drives a page whose refresh token is in a cookie. Argument: {chromium, issuer, app, elsewhere, planting, client, email, password}: app is on a
// subdomain of the issuer's site, elsewhere on another site with a registered origin, planting on another subdomain. It prints what became of each check:
// {"name": "" or what is wrong}.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { chromium: executablePath, issuer, app, elsewhere, planting, client, email, password } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath, args: ["--ignore-certificate-errors", "--host-resolver-rules=MAP *.test 127.0.0.1"] });
const results = {};

// ask sends a request as the page's own code would, with credentials, and returns what the page gets to see of the answer.
const ask = (page, path, { form, json, headers, method } = {}) => page.evaluate(async ([address, form, json, headers, method]) => {
  const init = { method: method ?? (form || json ? "POST" : "GET"), credentials: "include", headers: { ...headers } };
  if (form) init.body = new URLSearchParams(form);
  if (json) { init.body = JSON.stringify(json); init.headers["Content-Type"] = "application/json"; }
  try {
    const answer = await fetch(address, init);
    const text = await answer.text();
    return { status: answer.status, body: text ? JSON.parse(text) : null };
  } catch (failure) {
    return { failure: String(failure) };
  }
}, [issuer + path, form, json, headers, method]);

const named = { "X-Handstamp-Client": client };
const logIn = (page) => ask(page, "/v1/login", { json: { email, password, client_id: client }, headers: named });
const refresh = (page) => ask(page, "/oauth2/token", { form: { grant_type: "refresh_token", client_id: client }, headers: named });
const session = (page) => ask(page, "/v1/session", { headers: named });
const logOut = (page) => ask(page, "/v1/logout", { headers: named, method: "POST" });

// check runs in a browser of its own.
const check = async (name, run) => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  context.setDefaultTimeout(20000);
  const page = await context.newPage();
  try {
    await page.goto(app);
    await run(page, context);
    results[name] = "";
  } catch (fault) {
    results[name] = String(fault.stack ?? fault);
  }
  await context.close();
};

const cookieOf = async (context) => (await context.cookies(issuer)).filter((c) => c.name.startsWith("__Host-hs_rt_"));

await check("login, reload, session, refresh, logout", async (page, context) => {
  assert.equal((await session(page)).status, 204);
  const login = await logIn(page);
  assert.equal(login.status, 200, JSON.stringify(login));
  assert.equal(login.body.refresh_token_transport, "cookie");
  assert.equal(login.body.refresh_token, undefined);
  const [cookie] = await cookieOf(context);
  assert.ok(cookie && cookie.httpOnly && cookie.secure && cookie.sameSite === "Lax" && cookie.path === "/", JSON.stringify(cookie));
  await page.reload();
  const found = await session(page);
  assert.equal(found.status, 200, JSON.stringify(found));
  assert.equal(found.body.client_id, client);
  const first = await refresh(page);
  assert.equal(first.status, 200, JSON.stringify(first));
  const [next] = await cookieOf(context);
  assert.notEqual(next.value, cookie.value);
  await page.reload();
  assert.equal((await refresh(page)).status, 200);
  assert.equal((await logOut(page)).status, 204);
  assert.deepEqual(await cookieOf(context), []);
  assert.equal((await session(page)).status, 204);
});

await check("tabs that take turns", async (page, context) => {
  const login = await logIn(page);
  assert.equal(login.status, 200, JSON.stringify(login));
  const tabs = [page];
  for (let i = 0; i < 4; i++) { const tab = await context.newPage(); await tab.goto(app); tabs.push(tab); }
  for (let round = 0; round < 3; round++) {
    for (const tab of tabs) assert.equal((await refresh(tab)).status, 200);
  }
});

await check("an injected script", async (page) => {
  await logIn(page);
  const stolen = await page.evaluate(async (issuer) => {
    const frame = document.createElement("iframe");
    frame.src = issuer + "/";
    document.body.append(frame);
    await new Promise((done) => { frame.onload = done; frame.onerror = done; });
    let inside = "";
    try { inside = frame.contentDocument?.cookie ?? ""; } catch (refused) { inside = ""; }
    return [document.cookie, inside, JSON.stringify(localStorage), JSON.stringify(sessionStorage),
      JSON.stringify((await cookieStore.getAll()).map((c) => c.name + c.value))].join(" ");
  }, issuer);
  assert.ok(!stolen.includes("hsr_") && !stolen.includes("hs_rt_"), stolen);
  const answer = await refresh(page);
  assert.ok(!JSON.stringify(answer).includes("hsr_"), JSON.stringify(answer));
});

await check("a page on another site", async (page) => {
  await page.goto(elsewhere);
  const login = await logIn(page);
  assert.equal(login.status, 403, JSON.stringify(login));
  assert.equal(login.body.code, "cross_site");
  assert.match(login.body.detail, /subdomain/);
  const refused = await refresh(page);
  assert.equal(refused.status, 403, JSON.stringify(refused));
  assert.equal(refused.body.error, "cross_site");
  assert.match(refused.body.error_description, /back end for the front end/);
});

await check("forged requests of a page on another site, and of a subdomain that is not registered", async (page, context) => {
  await logIn(page);
  const [cookie] = await cookieOf(context);
  for (const attacker of [elsewhere, planting]) {
    await page.goto(attacker);
    for (const path of ["/oauth2/token", "/oauth2/revoke", "/v1/logout", "/v1/sessions/fork"]) {
      await page.evaluate(async ([address, client]) => {
        await fetch(address, { method: "POST", mode: "no-cors", credentials: "include",
          body: new URLSearchParams({ grant_type: "refresh_token", client_id: client, holder: "x" }) }).catch(() => {});
      }, [issuer + path, client]);
    }
    // A form that is posted as a navigation, as old browsers let everybody do.
    await page.evaluate(([address, client]) => {
      document.body.innerHTML = `<form method="post" action="${address}"><input name="grant_type" value="refresh_token">` +
        `<input name="client_id" value="${client}"></form>`;
      document.forms[0].submit();
    }, [issuer + "/oauth2/token", client]);
    await page.waitForURL(issuer + "/oauth2/token");
    assert.match(await page.textContent("body"), /origin_not_allowed|cross_site/);
  }
  await page.goto(app);
  assert.equal((await cookieOf(context))[0].value, cookie.value);
  assert.equal((await session(page)).status, 200);
});

await check("a cookie planted from a subdomain", async (page, context) => {
  await logIn(page);
  const [cookie] = await cookieOf(context);
  const domain = new URL(issuer).hostname.split(".").slice(1).join(".");
  await page.goto(planting);
  await page.evaluate(([name, domain]) => {
    for (const one of [name, name.toLowerCase()]) document.cookie = `${one}=hsr_planted; Domain=${domain}; Path=/; Secure`;
  }, [cookie.name, domain]);
  await page.goto(app);
  assert.equal((await cookieOf(context)).length, 1); // the browser does not take one with the prefix
  assert.equal((await refresh(page)).status, 200);
  assert.equal((await logIn(page)).status, 200);
  assert.notEqual((await cookieOf(context))[0].value, cookie.value);
});

await browser.close();
console.log(JSON.stringify(results));
