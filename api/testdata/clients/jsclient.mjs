// Chromium drives pages with pkg/jsclient. Argument: {chromium, app, other, issuer, control, transport, email, password}. The application and the service
// are on subdomains of one site with TLS; other is a page of another site, and its cookies are blocked. It prints what became of each check:
// {"name": "" or what is wrong}.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { chromium: executablePath, app, other, issuer, control, transport, email, password } = JSON.parse(process.argv[2]);
const cookie = transport === "cookie";
const browser = await chromium.launch({
  executablePath,
  args: ["--host-resolver-rules=MAP *.test 127.0.0.1", "--ignore-certificate-errors", "--test-third-party-cookie-phaseout"],
  ignoreDefaultArgs: ["--disable-back-forward-cache"],
});
const results = {};
const begun = Date.now();

const tell = async (what) => (await (await fetch(control + what)).json()).held;
const held = async (count) => {
  const until = Date.now() + 10_000;
  while ((await tell("look")) < count) assert.ok(Date.now() < until, `${count} requests have not come`);
};

const user = async (page, expected = "somebody") => {
  await page.waitForFunction(() => document.getElementById("user")?.textContent);
  await page.waitForFunction((text) => document.getElementById("user").textContent === text, expected, { timeout: 10_000 }).catch(async () => {
    assert.equal(await page.textContent("#user"), expected);
  });
};
const open = async (context, address = `${app}/`) => {
  const page = await context.newPage();
  await page.goto(address);
  return page;
};
const logIn = async (context) => {
  const page = await open(context);
  await user(page, "nobody");
  await page.evaluate(([email, password]) => window.client.loginWithPassword({ email, password }), [email, password]);
  await user(page);
  return page;
};
// refresh asks for a token that no token lasts long enough for, so that each call is a refresh.
const refresh = (page) => page.evaluate(() => window.client.getAccessToken({ minValidity: 1e6 }).then(() => "ok", (error) => error.code));
const alive = async (pages) => {
  for (const page of pages) {
    assert.equal(await refresh(page), "ok");
    assert.equal(await page.evaluate(() => window.client.user().then((one) => one?.email)), email);
  }
};

const check = async (name, run) => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  context.setDefaultTimeout(8_000);
  const problems = [];
  const errors = [];
  context.on("weberror", (error) => problems.push(String(error.error())));
  context.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  try {
    await tell("release");
    await run(context);
    assert.deepEqual(problems, []);
    results[name] = "";
  } catch (error) {
    results[name] = [error.stack ?? error, ...problems, ...errors].join("\n");
  } finally {
    await tell("release");
    await context.close();
    console.error(`${Date.now() - begun} ms: ${name}: ${results[name] || "ok"}`);
  }
};

await check("login at the hosted pages, and logout", async (context) => {
  const page = await open(context, `${app}/orders?page=2`);
  await user(page, "nobody");
  await page.evaluate(() => window.client.login({ prompt: "login" }));
  await page.fill("#email", email);
  await page.fill("#password", password);
  await page.click("#login-submit");
  await page.waitForURL((url) => url.origin === app);
  await user(page);
  assert.equal(page.url(), `${app}/`);
  assert.deepEqual(await page.evaluate(() => [Object.keys(localStorage), Object.keys(sessionStorage), document.cookie]), [[], [], ""]);
  await alive([page]);
  assert.equal(await page.evaluate((issuer) => window.client.fetch(`${issuer}/v1/me`).then((answer) => answer.json()).then((me) => me.email), issuer), email);
  assert.ok(await page.evaluate((issuer) => fetch(`${issuer}/oauth2/userinfo`).then((answer) => answer.headers.get("Date")), issuer), "no Date to correct the clock with");
  await page.evaluate(() => window.client.logout());
  await user(page, "nobody");
  await page.reload();
  await user(page, "nobody");
});

await check("log out everywhere", async (context) => {
  const page = await logIn(context);
  const elsewhere = await browser.newContext({ ignoreHTTPSErrors: true });
  const far = await logIn(elsewhere);
  await page.evaluate(() => window.client.logout({ everywhere: true }));
  await user(page, "nobody");
  assert.equal(await refresh(far), "login_required");
  await user(far, "nobody");
  assert.ok(!(await elsewhere.cookies()).some(({ name }) => name.includes("hs_rt_")), "a stale cookie stays");
  await elsewhere.close();
});

for (const count of [1, 2, 5, 20]) {
  await check(`${count} tabs refresh at once`, async (context) => {
    const tabs = [await logIn(context)];
    while (tabs.length < count) tabs.push(await open(context));
    await Promise.all(tabs.map((tab) => user(tab)));
    for (let round = 0; round < 5; round++) {
      assert.deepEqual(await Promise.all(tabs.map(refresh)), tabs.map(() => "ok"));
    }
    await alive(tabs);
  });
}

await check("a tab killed in mid-refresh", async (context) => {
  const [one, two] = [await logIn(context), await open(context)];
  await user(two);
  await tell("hold");
  refresh(one).catch(() => {});
  await held(1);
  const session = await context.newCDPSession(one);
  session.send("Page.crash").catch(() => {});
  await one.waitForEvent("crash");
  await tell("release");
  await alive([two]);
  const three = await open(context);
  await user(three);
  await alive([two, three]);
});

await check("answers that are lost", async (context) => {
  const [one, two] = [await logIn(context), await open(context)];
  await user(two);
  await tell("lose");
  assert.equal(await refresh(one), "network");
  assert.equal(await one.evaluate(() => window.client.getAccessToken().then(() => "ok")), "ok"); // what is left of the token
  await held(3);
  await tell("release");
  await alive([one, two]);
});

await check("reload", async (context) => {
  const [one, two] = [await logIn(context), await open(context)];
  await user(two);
  for (let i = 0; i < 3; i++) {
    await one.reload();
    await user(one);
  }
  await alive([one, two]);
  await tell("hold");
  refresh(one).catch(() => {});
  await held(1);
  await one.reload({ waitUntil: "commit" });
  await tell("release");
  await user(one);
  await alive([one, two]);
  await two.close();
  await one.reload();
  await user(one, cookie ? "somebody" : "nobody"); // memory does not outlive the last tab
});

await check("duplicate tab", async (context) => {
  const one = await logIn(context);
  const [two] = await Promise.all([context.waitForEvent("page"), one.evaluate(() => { window.open(location.href); })]);
  await user(two);
  await alive([one, two]);
});

await check("back-forward cache", async (context) => {
  const [one, two] = [await logIn(context), await open(context)];
  await user(two);
  await one.goto(`${issuer}/oauth2/logout`);
  for (let i = 0; i < 2; i++) await alive([two]); // one knows nothing of it
  await one.goBack({ waitUntil: "commit" });
  assert.equal(await one.evaluate(() => window.persisted), true, "the page was not kept");
  await alive([one, two]);
  await one.goto(`${issuer}/oauth2/logout`);
  await two.evaluate(() => window.client.logout());
  await one.goBack({ waitUntil: "commit" });
  assert.equal(await one.evaluate(() => window.persisted), true, "the page was not kept");
  if (cookie) await user(one, "nobody");
  assert.equal(await refresh(one), "login_required");
  await user(one, "nobody");
});

await check("frozen and thawed", async (context) => {
  const [one, two] = [await logIn(context), await open(context)];
  await user(two);
  const session = await context.newCDPSession(one);
  await session.send("Page.setWebLifecycleState", { state: "frozen" });
  for (let i = 0; i < 2; i++) await alive([two]);
  await session.send("Page.setWebLifecycleState", { state: "active" });
  await alive([one, two]);
});

await check("offline and back", async (context) => {
  const one = await logIn(context);
  await context.setOffline(true);
  assert.equal(await refresh(one), "network");
  await context.setOffline(false);
  await alive([one]);
});

await check("nothing stays pending", async (context) => {
  const one = await logIn(context);
  await tell("hold");
  const [result, ms] = await one.evaluate(async () => {
    const from = Date.now();
    const result = await window.client.logout({ everywhere: true }).then(() => "ok", (error) => error.code);
    return [result, Date.now() - from];
  });
  assert.equal(result, "timeout");
  assert.ok(ms >= 9_000 && ms < 12_000, `${ms} ms`);
  await user(one, "nobody");
});

await check("logout in one tab reaches the others", async (context) => {
  const tabs = [await logIn(context), await open(context), await open(context)];
  await Promise.all(tabs.map((tab) => user(tab)));
  await tabs[0].evaluate(() => window.client.logout());
  for (const tab of tabs) {
    await user(tab, "nobody");
    assert.equal(await refresh(tab), "login_required");
  }
});

if (cookie) {
  await check("third-party cookies are blocked, and ours is none", async (context) => {
    const one = await logIn(context);
    await one.reload();
    await user(one);
    const stranger = await open(context, `${other}/`);
    await stranger.waitForFunction(() => document.getElementById("user").textContent);
    const cookies = await context.cookies();
    assert.ok(cookies.some(({ name }) => name.startsWith("__Host-hs_rt_")), JSON.stringify(cookies));
    await alive([one]);
  });

  await check("a script in the page cannot read or send away the refresh token", async (context) => {
    // The script is there before the application, sees all that page and network show it, and asks all that it can reach.
    await context.addInitScript(() => {
      window.seen = [];
      const { fetch } = window;
      window.fetch = async (...asked) => {
        const answer = await fetch(...asked);
        window.seen.push(JSON.stringify([String(asked[0]), asked[1]?.body, [...answer.headers], await answer.clone().text()]));
        return answer;
      };
      const { postMessage } = BroadcastChannel.prototype;
      BroadcastChannel.prototype.postMessage = function (data) {
        window.seen.push(JSON.stringify(data));
        return postMessage.call(this, data);
      };
    });
    const one = await logIn(context);
    await alive([one]);
    await one.reload();
    await user(one);
    await alive([one]);
    const token = (await context.cookies()).find(({ name }) => name.startsWith("__Host-hs_rt_"));
    assert.match(token.value, /^hsr_/);
    assert.ok(token.httpOnly && token.secure && token.sameSite === "Lax");
    const leaked = await one.evaluate(async (issuer) => {
      const found = [...window.seen, document.cookie, JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage }), location.href];
      // Other ways to ask: without the client, with and without what it sends, and where an echo could be.
      for (const [path, init] of [
        ["/oauth2/token", { method: "POST", body: new URLSearchParams({ grant_type: "refresh_token", client_id: "spa-cookie" }) }],
        ["/oauth2/token", { method: "POST", body: new URLSearchParams({ grant_type: "refresh_token", client_id: "spa-cookie" }), headers: { "X-Handstamp-Client": "spa-cookie" } }],
        ["/v1/session", { headers: { "X-Handstamp-Client": "spa-cookie" } }],
        ["/v1/me", {}], ["/oauth2/userinfo", {}], ["/oauth2/introspect", { method: "POST", body: new URLSearchParams({ client_id: "spa-cookie" }) }],
        ["/oauth2/token", { method: "TRACE" }],
      ]) {
        try {
          const answer = await fetch(issuer + path, { credentials: "include", signal: AbortSignal.timeout(3000), ...init });
          found.push(JSON.stringify([...answer.headers]) + await answer.text());
        } catch (error) {
          found.push(String(error));
        }
      }
      // A frame and a form of the service's origin cannot be read.
      const frame = document.createElement("iframe");
      frame.src = `${issuer}/oauth2/logout`;
      document.body.append(frame);
      await new Promise((resolve) => { frame.onload = resolve; setTimeout(resolve, 2000); });
      try { found.push(frame.contentDocument.cookie); } catch (error) { found.push(String(error)); }
      return found.join("\n");
    }, issuer);
    assert.ok(leaked.includes("access_token"), "the script saw nothing at all");
    assert.doesNotMatch(leaked, /hsr_/);
  });
}

await browser.close();
console.log(JSON.stringify(results));
