import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, describe, it, mock } from "node:test";
import { gzipSync } from "node:zlib";
import { createElement } from "react";
import { renderToStaticMarkup as renderReact } from "react-dom/server";
import { createApp, createSSRApp, effectScope, h } from "vue";
import { renderToString as renderVue } from "vue/server-renderer";
import { HandstampError, type User } from "../src/index.js";
import * as react from "../src/react.js";
import * as vue from "../src/vue.js";
import { type Asked, code, credentials, issuer, settle, World } from "./world.js";

let w: World;
const world = (cookie = false) => (w = new World(cookie));
afterEach(() => {
  w.end();
});

const loggedIn = async (cookie = false) => {
  world(cookie);
  const tab = w.tab();
  await w.until(tab.loginWithPassword(credentials));
  return tab;
};

const refreshes = () => w.asked.filter((asked) => asked.fields.get("grant_type") === "refresh_token");
const keys = () => refreshes().map((asked) => asked.headers.get("Idempotency-Key"));
const isRefresh = (asked: Asked) => asked.fields.get("grant_type") === "refresh_token";
const lost = () => Promise.reject(new TypeError("Failed to fetch"));

for (const cookie of [false, true]) {
  describe(`transport ${cookie ? "cookie" : "body"}`, () => {
    it("logs in with a password, and says so", async () => {
      world(cookie);
      const tab = w.tab();
      const heard: (User | null)[] = [];
      const off = tab.on("change", (user) => heard.push(user));
      const user = await w.until(tab.loginWithPassword(credentials));
      assert.equal(user.sub, "usr_ann");
      assert.equal(user.name, "Zoë 😀");
      assert.equal(user["iat"], undefined);
      assert.deepEqual(await w.until(tab.user()), user);
      assert.deepEqual(heard, [user]);
      off();
      await w.until(tab.logout());
      assert.equal(heard.length, 1);
      assert.equal(await w.until(tab.user()), null);
      assert.equal(await code(w.until(tab.getAccessToken())), "login_required");
      assert.ok([...w.sessions.values()].every((session) => session.over));
      assert.equal(w.clock.pending, 0, "timers that outlive their call");
    });

    it("signs up, and returns null where the address is to be verified", async () => {
      world(cookie);
      const tab = w.tab();
      assert.equal((await w.until(tab.signup({ ...credentials, name: "Ann" })))?.sub, "usr_ann");
      assert.deepEqual(JSON.parse(w.asked[0]?.body ?? ""), { client_id: "spa", ...credentials, name: "Ann" });
      w.between = () => w.json(202, { status: "verification_sent" });
      assert.equal(await w.until(tab.signup(credentials)), null);
    });

    it("keeps a token until it is about to expire, then refreshes once for all callers", async () => {
      const tab = await loggedIn(cookie);
      const first = await tab.getAccessToken();
      await w.clock.pass(860);
      assert.equal(await tab.getAccessToken(), first);
      await w.clock.pass(20);
      const tokens = await w.until(Promise.all(Array.from({ length: 20 }, () => tab.getAccessToken())));
      assert.equal(new Set(tokens).size, 1);
      assert.notEqual(tokens[0], first);
      assert.equal(refreshes().length, 1);
      assert.notEqual(await w.until(tab.getAccessToken({ minValidity: 1000 })), tokens[0]);
      assert.equal(new Set(keys()).size, 2, "a key of its own for each rotation");
    });

    it("sends a lost rotation again with its key, however late", async () => {
      const tab = await loggedIn(cookie);
      w.between = (asked, answered) => {
        if (!isRefresh(asked)) return undefined;
        const jar = w.jar;
        answered(); // the service has rotated
        w.jar = jar; // and the browser has not heard of it
        return lost();
      };
      await w.clock.pass(1000);
      assert.equal(await code(w.until(tab.getAccessToken())), "network");
      assert.equal(refreshes().length, 3);
      await w.clock.pass(86_400);
      w.between = undefined;
      assert.ok(await w.until(tab.getAccessToken()));
      assert.equal(new Set(keys()).size, 1);
      assert.ok(w.alive);
    });

    it("never logs out for a failure of the service or the network", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1000);
      for (const failure of [
        () => lost(),
        () => w.json(500, { error: "server_error" }),
        () => w.json(503, { error: "temporarily_unavailable" }),
        () => w.json(429, { code: "too_many_attempts" }),
        () => new Response("<h1>Bad gateway</h1>", { status: 502 }),
        () => new Response("<h1>Please log in to the hotel</h1>"),
        () => w.json(403, { error: "origin_not_allowed" }),
      ]) {
        w.between = failure;
        assert.notEqual(await code(w.until(tab.getAccessToken())), "login_required");
        assert.equal((await w.until(tab.user()))?.sub, "usr_ann");
      }
      w.between = undefined;
      assert.ok(await w.until(tab.getAccessToken()));
    });

    it("gives what is left of a token while the service is away, unless more is asked for", async () => {
      const tab = await loggedIn(cookie);
      const first = await tab.getAccessToken();
      await w.clock.pass(880);
      w.between = lost;
      assert.equal(await w.until(tab.getAccessToken()), first);
      assert.equal(await code(w.until(tab.getAccessToken({ minValidity: 60 }))), "network");
    });

    it("logs out for invalid_grant, after another look", async () => {
      const tab = await loggedIn(cookie);
      const heard: (User | null)[] = [];
      tab.on("change", (user) => heard.push(user));
      await w.clock.pass(1000);
      for (const session of w.sessions.values()) session.over = true;
      assert.equal(await code(w.until(tab.getAccessToken())), "login_required");
      assert.deepEqual(heard, [null]);
      assert.equal(await w.until(tab.user()), null);
    });

    it("stays logged in if another tab was faster than a late copy", async () => {
      const tab = await loggedIn(cookie);
      const other = w.tab();
      await w.until(other.user());
      await w.clock.pass(1000);
      let first = true;
      w.between = (asked) => {
        if (!isRefresh(asked) || !first) return undefined;
        first = false;
        w.between = undefined;
        return other.getAccessToken().then(() => w.json(400, { error: "invalid_grant" }));
      };
      assert.equal(await w.until(tab.getAccessToken()), await w.until(other.getAccessToken()));
      assert.ok(w.alive);
    });

    for (const n of [1, 2, 5, 20]) {
      it(`${String(n)} tabs refresh at once`, async () => {
        await loggedIn(cookie);
        const tabs = Array.from({ length: n }, () => w.tab());
        await w.until(Promise.all(tabs.map((tab) => tab.user())));
        for (let round = 0; round < 5; round++) {
          await w.clock.pass(1000);
          const tokens = await w.until(Promise.all(tabs.map((tab) => tab.getAccessToken())));
          assert.ok(tokens.every(Boolean));
        }
        assert.ok(w.alive);
      });
    }

    it("tabs agree on one key, and one of them refreshes for all", async () => {
      await loggedIn(cookie);
      const tabs = Array.from({ length: 20 }, () => w.tab());
      await w.until(Promise.all(tabs.map((tab) => tab.user())));
      await w.clock.pass(1000);
      const before = refreshes().length;
      await w.until(Promise.all(tabs.map((tab) => tab.getAccessToken())));
      assert.equal(refreshes().length, before + 1);
      await w.clock.pass(1000);
      w.between = (asked) => (isRefresh(asked) ? lost() : undefined);
      await w.until(Promise.all(tabs.map((tab) => code(tab.getAccessToken()))));
      assert.equal(new Set(keys().slice(before + 1)).size, 1);
    });

    it("a tab that hears of another's refresh gives it a second", async () => {
      await loggedIn(cookie);
      const tabs = [w.tab(), w.tab(), w.tab()];
      await w.until(Promise.all(tabs.map((tab) => tab.user())));
      await w.clock.pass(1000);
      const before = refreshes().length;
      w.between = (asked, answered) =>
        isRefresh(asked)
          ? new Promise((resolve) => {
              setTimeout(() => {
                resolve(answered());
              }, 500);
            })
          : undefined;
      await w.until(Promise.all(tabs.map((tab) => tab.getAccessToken())));
      assert.equal(refreshes().length, before + 1);
    });

    it("a key that waits for its answer goes before another tab's new one", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1);
      const other = w.tab();
      await w.until(other.user());
      for (let round = 0; round < 6; round++) {
        await w.clock.pass(3600);
        w.between = (asked, answered) => {
          if (!isRefresh(asked)) return undefined;
          const jar = w.jar;
          answered();
          w.jar = jar;
          return lost();
        };
        const deaf = mock.method(BroadcastChannel.prototype, "postMessage", () => undefined);
        assert.equal(await code(w.until(tab.getAccessToken())), "network");
        deaf.mock.restore();
        w.between = undefined;
        await w.clock.pass(60);
        await w.until(Promise.all([other.getAccessToken(), tab.getAccessToken()]));
        assert.ok(w.alive);
      }
    });

    it("works where tabs cannot hear each other", async () => {
      world(cookie);
      Reflect.deleteProperty(globalThis, "BroadcastChannel");
      const tab = w.tab();
      await w.until(tab.loginWithPassword(credentials));
      await w.clock.pass(1000);
      assert.ok(await w.until(tab.getAccessToken()));
      await w.until(tab.logout());
      assert.equal(await w.until(tab.user()), null);
    });

    it("a tab killed in mid-refresh leaves its key to the others", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1);
      const other = w.tab();
      await w.until(other.user());
      await w.clock.pass(1000);
      w.between = (asked, answered) => {
        if (!isRefresh(asked)) return undefined;
        const jar = w.jar;
        answered();
        w.jar = jar;
        return new Promise(() => undefined);
      };
      const killed = code(tab.getAccessToken());
      await w.clock.pass(0.2);
      tab.dispose();
      w.between = undefined;
      await w.clock.pass(3600);
      assert.equal(await killed, "timeout");
      assert.ok(await w.until(other.getAccessToken()));
      assert.ok(w.alive);
    });

    it("settles within its time limit when nothing answers, and leaves no request behind", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1000);
      w.between = () => new Promise(() => undefined);
      const calls = [tab.getAccessToken(), tab.loginWithPassword(credentials), tab.signup(credentials), tab.logout()].map(code);
      await w.clock.pass(10.2);
      const waiting = Symbol("waiting");
      for (const call of calls) assert.notEqual(await Promise.race([call, settle().then(() => waiting)]), waiting);
      assert.ok(w.asked.slice(1).every((asked) => asked.init.signal?.aborted));
      assert.equal(w.clock.pending, 0);
    });

    it("a caller that gives up does not stop the others", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1000);
      const controller = new AbortController();
      const given = tab.getAccessToken({ signal: controller.signal });
      const kept = tab.getAccessToken();
      controller.abort();
      await assert.rejects(given, { name: "AbortError" });
      assert.ok(await w.until(kept));
      await assert.rejects(tab.getAccessToken({ signal: AbortSignal.abort() }), { name: "AbortError" });
      assert.equal(refreshes().length, 1);
    });

    it("waits for Retry-After where there is time, and else fails at once and keeps away", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1000);
      let busy = 2;
      w.between = (asked) => (isRefresh(asked) && busy-- > 0 ? w.json(503, { error: "temporarily_unavailable" }, { "Retry-After": "2" }) : undefined);
      const from = w.clock.time;
      assert.ok(await w.until(tab.getAccessToken()));
      assert.ok(w.clock.time - from >= 4000);

      await w.clock.pass(1000);
      w.between = () => w.json(503, { error: "temporarily_unavailable" }, { "Retry-After": "60" });
      const before = refreshes().length;
      const failure = await w.until(tab.getAccessToken().catch((e: unknown) => e));
      assert.ok(failure instanceof HandstampError);
      assert.deepEqual([failure.code, failure.status, failure.retryAfter], ["temporarily_unavailable", 503, 60]);
      assert.equal(await code(w.until(tab.getAccessToken())), "temporarily_unavailable");
      assert.equal(refreshes().length, before + 1);
      w.between = undefined;
      await w.clock.pass(60);
      assert.ok(await w.until(tab.getAccessToken()));
      assert.equal(new Set(keys()).size, 2);
    });

    for (const ahead of [-7200, 7200]) {
      it(`a device's clock that is ${String(ahead)} s ahead`, async () => {
        world(cookie);
        w.ahead = ahead;
        const tab = w.tab();
        await w.until(tab.loginWithPassword(credentials));
        const first = await w.until(tab.getAccessToken());
        await w.clock.pass(800);
        assert.equal(await w.until(tab.getAccessToken()), first);
        await w.clock.pass(100);
        assert.notEqual(await w.until(tab.getAccessToken()), first);
        assert.equal(refreshes().length, 1);
      });
    }

    it("refreshes after a sleep", async () => {
      const tab = await loggedIn(cookie);
      const first = await tab.getAccessToken();
      await w.clock.sleep(8 * 3600);
      assert.notEqual(await w.until(tab.getAccessToken()), first);
      assert.ok(w.alive);
    });

    it("a sleep in the middle of a rotation", async () => {
      const tab = await loggedIn(cookie);
      const other = w.tab();
      await w.until(other.user());
      await w.clock.pass(1000);
      let times = 0;
      w.between = (asked) => (isRefresh(asked) && times++ === 0 ? lost() : undefined);
      const asleep = code(tab.getAccessToken());
      await w.clock.pass(0.15); // the first try has failed, the second waits
      await w.clock.sleep(3600);
      assert.ok(["ok", "network", "timeout"].includes(await w.until(asleep)));
      assert.ok(await w.until(other.getAccessToken()));
      assert.ok(await w.until(tab.getAccessToken()));
      assert.ok(w.alive);
    });

    it("offline and back", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1000);
      w.between = lost;
      for (let i = 0; i < 5; i++) assert.equal(await code(w.until(tab.getAccessToken())), "network");
      w.between = undefined;
      await w.clock.pass(3600);
      assert.ok(await w.until(tab.getAccessToken()));
      assert.ok(w.alive);
    });

    it("a logout reaches the other tabs, and a late message does not undo it", async () => {
      const tab = await loggedIn(cookie);
      const other = w.tab();
      await w.until(other.user());
      const heard: (User | null)[] = [];
      other.on("change", (user) => heard.push(user));
      const late = new BroadcastChannel(`handstamp ${issuer} spa`);
      let state: unknown;
      late.onmessage = ({ data }: MessageEvent<{ state?: unknown }>) => {
        state ??= data.state;
      };
      late.postMessage({ ask: true });
      await settle();
      assert.ok(state);
      await w.until(tab.logout());
      assert.deepEqual(heard, [null]);
      late.postMessage({ state });
      await settle();
      assert.equal(await w.until(other.user()), null);
      assert.equal(await w.until(tab.user()), null);
      w.sub = "usr_ben";
      await w.until(other.loginWithPassword(credentials));
      await settle();
      assert.equal((await w.until(tab.user()))?.sub, "usr_ben");
    });

    it("a logout holds at once, also when the service cannot be reached", async () => {
      const tab = await loggedIn(cookie);
      w.between = lost;
      assert.equal(await code(w.until(tab.logout())), "network");
      w.between = undefined;
      assert.equal(await w.until(tab.user()), null);
      assert.equal(await code(w.until(tab.getAccessToken())), "login_required");
    });

    it("a logout that comes into a refresh wins", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1000);
      w.between = (asked) => (isRefresh(asked) ? new Promise(() => undefined) : undefined);
      const refreshing = code(tab.getAccessToken());
      await w.clock.pass(1);
      await w.until(tab.logout());
      assert.equal(await w.until(refreshing), "superseded");
      assert.ok(refreshes()[0]?.init.signal?.aborted, "its cookie could come after the logout");
      assert.equal(await w.until(tab.user()), null);
    });

    it("logs out everywhere with a token for the account", async () => {
      const tab = await loggedIn(cookie);
      await w.until(tab.loginWithPassword(credentials));
      await w.until(tab.logout({ everywhere: true }));
      const account = w.asked.find((asked) => asked.path === "/v1/sessions");
      assert.equal(refreshes()[0]?.fields.get("resource"), issuer);
      assert.match(account?.headers.get("Authorization") ?? "", /^Bearer h\./);
      assert.equal(account?.init.credentials, "omit");
      assert.ok([...w.sessions.values()].every((session) => session.over));
      assert.equal(w.count("/oauth2/revoke"), 1, "the cookie is cleared, too");
    });

    it("keeps nothing in storage", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1000);
      await w.until(tab.getAccessToken());
      assert.deepEqual([Object.keys(localStorage), Object.keys(sessionStorage)], [[], []]);
    });

    it("lets go and comes again, as strict React mounts twice", async () => {
      const tab = await loggedIn(cookie);
      const heard: (User | null)[] = [];
      tab.on("change", (user) => heard.push(user));
      tab.dispose();
      const other = w.tab();
      await w.until(other.loginWithPassword(credentials));
      assert.deepEqual(heard, []);
      assert.ok(await w.until(tab.getAccessToken()));
      await w.until(other.logout());
      assert.equal(heard.length, 0);
    });

    it("refuses tokens that come the other way", async () => {
      world(cookie);
      const tab = w.tab({ transport: cookie ? "body" : "cookie" });
      assert.equal(await code(w.until(tab.loginWithPassword(credentials))), "transport_mismatch");
    });

    it("comes back from the back-forward cache", async () => {
      const tab = await loggedIn(cookie);
      await w.clock.pass(1);
      dispatchEvent(new Event("pagehide"));
      const shown = Object.assign(new Event("pageshow"), { persisted: true });
      const other = w.tab();
      w.sub = "usr_ben";
      await w.until(other.loginWithPassword(credentials));
      dispatchEvent(shown);
      await w.clock.pass(1);
      assert.equal((await w.until(tab.user()))?.sub, "usr_ben");
      if (cookie) {
        dispatchEvent(new Event("pagehide"));
        w.jar = undefined;
        dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
        await w.clock.pass(1);
        assert.equal(await w.until(tab.user()), null);
      }
    });
  });
}

describe("the hosted pages", () => {
  const slotNames = () => Object.keys(sessionStorage);
  const back = (answer: Record<string, string>) => {
    const given = Object.entries({ tab: "1", ...answer }).filter(([, value]) => value);
    location.href = `https://app.example.com/?${new URLSearchParams(given).toString()}`;
  };
  const begin = async (tab = w.tab({ scope: "openid" })) => {
    await tab.login({ prompt: "login", returnTo: "/orders" });
    const to = new URL(w.visited.at(-1) ?? "");
    w.nonce = to.searchParams.get("nonce") ?? "";
    return { tab, query: to.searchParams, to };
  };

  it("asks with state, nonce and PKCE, and takes the answer", async () => {
    world();
    const { tab, query, to } = await begin();
    assert.equal(to.origin + to.pathname, `${issuer}/oauth2/authorize`);
    assert.deepEqual(
      ["response_type", "client_id", "redirect_uri", "scope", "code_challenge_method", "prompt"].map((name) => query.get(name)),
      ["code", "spa", "https://app.example.com/", "openid", "S256", "login"],
    );
    assert.ok(["state", "nonce", "code_challenge"].every((name) => query.get(name)?.length === 43));
    back({ code: "c 1", state: query.get("state") ?? "", iss: issuer });
    const [first, second] = [tab.handleCallback(), tab.handleCallback()];
    assert.equal(first, second, "strict React calls twice");
    assert.equal(location.href, "https://app.example.com/?tab=1");
    const answer = await w.until(first);
    assert.deepEqual([answer?.user.sub, answer?.returnTo], ["usr_ann", "/orders"]);
    const { fields } = w.asked[0] as Asked;
    const challenge = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.from(fields.get("code_verifier") ?? ""))).toString("base64url");
    assert.equal(challenge, query.get("code_challenge"));
    assert.equal(fields.get("code"), "c 1");
    assert.deepEqual(slotNames(), []);
    assert.equal(await w.until(tab.handleCallback()), null);
    assert.equal(w.asked.length, 1);
  });

  it("a second login does not overwrite the first, and old ones are swept", async () => {
    world();
    const one = await begin();
    const two = await begin();
    assert.equal(slotNames().length, 2);
    sessionStorage.setItem("of the application", "x");
    back({ code: "1", state: one.query.get("state") ?? "", iss: issuer });
    w.nonce = one.query.get("nonce") ?? "";
    assert.ok(await w.until(one.tab.handleCallback()));
    assert.equal(slotNames().length, 2);
    await w.clock.pass(4000);
    await begin();
    assert.equal(slotNames().length, 2);
    assert.ok(!slotNames().some((name) => name.includes(two.query.get("state") ?? "")));
  });

  for (const [name, change, expected] of [
    ["another service's answer", { iss: "https://evil.example" }, "issuer_mismatch"],
    ["an answer without issuer", { iss: "" }, "issuer_mismatch"],
    ["another service's error", { iss: "https://evil.example", code: "", error: "access_denied" }, "issuer_mismatch"],
    ["an answer that nobody asked for", { state: "planted" }, "state_mismatch"],
    ["an error", { code: "", error: "access_denied" }, "access_denied"],
  ] as const) {
    it(`refuses ${name}`, async () => {
      world();
      const { tab, query } = await begin();
      back({ code: "1", state: query.get("state") ?? "", iss: issuer, ...change });
      assert.equal(await code(w.until(tab.handleCallback())), expected);
      assert.equal(w.asked.length, 0, "the code has left");
      assert.equal(location.search, "?tab=1");
    });
  }

  it("refuses an ID token of another login, and never sends a code twice", async () => {
    world();
    const one = await begin();
    w.nonce = "another";
    back({ code: "1", state: one.query.get("state") ?? "", iss: issuer });
    assert.equal(await code(w.until(one.tab.handleCallback())), "nonce_mismatch");
    assert.equal(await w.until(one.tab.user()), null);
    const two = await begin();
    w.between = lost;
    back({ code: "2", state: two.query.get("state") ?? "", iss: issuer });
    assert.equal(await code(w.until(two.tab.handleCallback())), "network");
    assert.equal(w.asked.filter((asked) => asked.fields.get("code") === "2").length, 1);
  });
});

describe("fetch", () => {
  it("sends the access token, and refreshes once if it is refused", async () => {
    const tab = await loggedIn();
    const seen: [string, string | null][] = [];
    w.api = async (request) => {
      seen.push([await request.text(), request.headers.get("Authorization")]);
      return seen.length === 2 ? new Response("hello") : new Response(null, { status: 401, headers: { "WWW-Authenticate": 'Bearer error="invalid_token"' } });
    };
    const answer = await w.until(tab.fetch("https://api.example.com/orders", { method: "POST", body: "one" }));
    assert.equal(await answer.text(), "hello");
    assert.deepEqual(seen.map(([body]) => body), ["one", "one"]);
    assert.notEqual(seen[0]?.[1], seen[1]?.[1]);
    assert.equal((await w.until(tab.fetch("https://api.example.com/orders"))).status, 401);
    assert.equal(seen.length, 4, "one retry, no more");
    assert.equal(refreshes().length, 2);
  });

  it("takes another 401 as it is", async () => {
    const tab = await loggedIn();
    w.api = () => new Response(null, { status: 401, headers: { "WWW-Authenticate": 'Bearer error="insufficient_scope"' } });
    assert.equal((await w.until(tab.fetch("https://api.example.com/"))).status, 401);
    assert.equal(refreshes().length, 0);
  });

  it("logs in anew if the API asks for that (RFC 9470)", async () => {
    const tab = await loggedIn();
    w.api = () => new Response(null, { status: 401, headers: { "WWW-Authenticate": 'Bearer error="insufficient_user_authentication", max_age="300", acr_values="a b"' } });
    assert.equal((await w.until(tab.fetch("https://api.example.com/"))).status, 401);
    const query = new URL(w.visited[0] ?? "").searchParams;
    assert.deepEqual([query.get("max_age"), query.get("acr_values")], ["300", "a b"]);
    assert.equal(refreshes().length, 0);
  });

  it("fails without a login, and when its caller gives up", async () => {
    world();
    const tab = w.tab();
    assert.equal(await code(w.until(tab.fetch("https://api.example.com/"))), "login_required");
  });
});

describe("the cookie", () => {
  it("asks whether there is a session before it refreshes", async () => {
    world(true);
    assert.equal(await w.until(w.tab().user()), null);
    assert.equal(refreshes().length, 0);
    await w.until(w.tab().loginWithPassword(credentials));
    const reloaded = w.tab();
    dispatchEvent(new Event("pagehide")); // nobody to hear
    assert.equal((await w.until(reloaded.user()))?.sub, "usr_ann");
    for (const { headers, init } of w.asked) {
      assert.equal(headers.get("X-Handstamp-Client"), "spa");
      assert.equal(init.credentials, "include");
      assert.equal(init.keepalive, true);
    }
    assert.equal(refreshes()[0]?.fields.get("refresh_token"), null);
  });

  it("shows no token that was there before the logout", async () => {
    const tab = await loggedIn(true);
    const messages: unknown[] = [];
    const script = new BroadcastChannel(`handstamp ${issuer} spa`);
    script.onmessage = ({ data }) => messages.push(data);
    script.postMessage({ ask: true });
    await w.clock.pass(1000);
    await w.until(tab.getAccessToken());
    assert.ok(messages.length > 1);
    for (const generation of [0, 1]) assert.ok(!JSON.stringify(messages).includes(`ses_0.${String(generation)}`));
  });
});

describe("memory shared by tabs (transport body)", () => {
  it("a tab that opens gets the login of the others", async () => {
    await loggedIn();
    assert.equal((await w.until(w.tab().user()))?.sub, "usr_ann");
    assert.equal(refreshes().length, 0);
  });

  it("an older state that comes late changes nothing", async () => {
    const tab = await loggedIn();
    const late = new BroadcastChannel(`handstamp ${issuer} spa`);
    let old: unknown;
    late.onmessage = ({ data }: MessageEvent<{ state?: unknown }>) => {
      old ??= data.state;
    };
    late.postMessage({ ask: true });
    await settle();
    for (let i = 0; i < 3; i++) {
      await w.clock.pass(1000);
      await w.until(tab.getAccessToken());
    }
    late.postMessage({ state: old });
    await w.clock.pass(1000);
    assert.ok(await w.until(tab.getAccessToken()));
    assert.ok(w.alive);
  });

  it("a login in another tab comes while this one waits to try again", async () => {
    const tab = await loggedIn();
    const other = w.tab();
    await w.until(other.user());
    await w.clock.pass(1000);
    let first = true;
    w.between = (asked) => (isRefresh(asked) && first ? ((first = false), lost()) : undefined);
    const waiting = tab.getAccessToken();
    await w.clock.pass(0.12); // it has failed once
    await w.until(other.loginWithPassword(credentials));
    assert.equal(await w.until(waiting), await other.getAccessToken());
    assert.equal(refreshes().length, 1, "the token of the session before was shown");
  });

  it("a tab that has slept shows no old token", async () => {
    const tab = await loggedIn();
    const other = w.tab();
    await w.until(other.user());
    dispatchEvent(new Event("pagehide"));
    await w.clock.pass(1000);
    await w.until(other.getAccessToken());
    // other has its channel again with its next call; tab comes back from the cache
    dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
    for (let i = 0; i < 2; i++) {
      await w.clock.pass(1000);
      await w.until(other.getAccessToken());
    }
    assert.ok(await w.until(tab.getAccessToken()));
    assert.ok(w.alive);
  });
});

describe("a store (React Native)", () => {
  const keyChain = () => {
    const writes: string[] = [];
    let value: string | null = null;
    return {
      writes,
      get: () => Promise.resolve(value),
      set: (next: string | null) => {
        value = next;
        writes.push(next ?? "");
        return Promise.resolve();
      },
    };
  };
  const native = () => {
    world();
    w.browser(false);
    Reflect.deleteProperty(globalThis, "BroadcastChannel");
    return keyChain();
  };

  it("keeps the login over a restart, and writes the key down before it sends", async () => {
    const store = native();
    await w.until(w.tab({ store }).loginWithPassword(credentials));
    w.between = (asked, answered) => {
      const written = JSON.parse(store.writes.at(-1) ?? "{}") as { key?: string };
      assert.equal(written.key, asked.headers.get("Idempotency-Key"));
      answered();
      return lost();
    };
    assert.equal(await code(w.until(w.tab({ store }).getAccessToken())), "network");
    w.between = undefined;
    await w.clock.pass(86_400);
    const again = w.tab({ store });
    assert.equal((await w.until(again.user()))?.sub, "usr_ann");
    assert.ok(await w.until(again.getAccessToken()));
    assert.ok(w.alive);
    assert.ok(!store.writes.some((text) => text.includes("h.ey")), "an access token was written");
    await w.until(again.logout());
    assert.equal(await store.get(), null);
  });

  it("two processes on one store", async () => {
    const store = native();
    const [app, extension] = [w.tab({ store }), w.tab({ store })];
    await w.until(app.loginWithPassword(credentials));
    for (let round = 0; round < 20; round++) {
      await w.clock.pass(1000);
      await w.until(Promise.all(round % 3 ? [app.getAccessToken(), extension.getAccessToken()] : [extension.getAccessToken()]));
    }
    assert.ok(w.alive);
  });

  it("an answer that comes late does not overwrite what another process has got", async () => {
    const store = native();
    const [app, extension] = [w.tab({ store }), w.tab({ store })];
    await w.until(app.loginWithPassword(credentials));
    await w.clock.pass(1000);
    w.between = (asked, answered) => {
      if (!isRefresh(asked)) return undefined;
      w.between = undefined;
      const answer = answered();
      return extension.getAccessToken({ minValidity: 0 }).then(() => extension.getAccessToken({ minValidity: 5000 })).then(() => answer);
    };
    assert.ok(await w.until(app.getAccessToken()));
    await w.clock.pass(2000);
    assert.ok(await w.until(app.getAccessToken()));
    assert.ok(await w.until(extension.getAccessToken()));
    assert.ok(w.alive);
  });

  it("keeps what it has if the store cannot be written", async () => {
    const store = native();
    const app = w.tab({ store });
    await w.until(app.loginWithPassword(credentials));
    await w.clock.pass(1000);
    const { set } = store;
    store.set = () => Promise.reject(new Error("locked"));
    await assert.rejects(w.until(app.getAccessToken()), /locked/);
    assert.equal(refreshes().length, 0, "sent before it was written down");
    store.set = set;
    assert.ok(await w.until(app.getAccessToken()));
  });
});

describe("elsewhere", () => {
  it("a server that renders pages knows nobody, and asks nobody", async () => {
    world();
    w.browser(false);
    for (const transport of ["body", "cookie"] as const) {
      const client = w.tab({ transport });
      assert.equal(await w.until(client.user()), null);
      assert.equal(await code(w.until(client.getAccessToken())), "login_required");
      assert.equal(await w.until(client.handleCallback()), null);
      assert.equal(await code(client.login()), "unsupported");
      client.dispose();
    }
    assert.equal(w.asked.length, 0);
  });

  it("a worker", async () => {
    world(true);
    w.jar = `${w.begin().sid}.0`;
    Reflect.deleteProperty(globalThis, "document");
    Reflect.deleteProperty(globalThis, "sessionStorage");
    const worker = w.tab();
    assert.equal((await w.until(worker.user()))?.sub, "usr_ann");
    assert.ok(await w.until(worker.getAccessToken()));
    assert.equal(await code(worker.login()), "unsupported");
  });

  it("components render on a server", async () => {
    world();
    w.browser(false);
    const client = w.tab();
    const React = () => createElement("p", null, react.useHandstamp().loading ? "loading" : "");
    assert.equal(renderReact(createElement(react.HandstampProvider, { client }, createElement(React))), "<p>loading</p>");
    const app = createSSRApp({ setup: () => vue.useHandstamp(), render: (login: { loading: boolean }) => h("p", login.loading ? "loading" : "") });
    assert.equal(await renderVue(app.use(vue.handstamp, client)), "<p>loading</p>");
    assert.equal(w.asked.length, 0);
  });

  it("a component of Vue knows who is logged in", async () => {
    const tab = await loggedIn();
    const app = createApp({});
    app.use(vue.handstamp, tab);
    const scope = effectScope();
    const login = app.runWithContext(() => scope.run(() => vue.useHandstamp()));
    await w.clock.pass(1);
    assert.equal(login?.loading.value, false);
    assert.equal(login.user.value?.sub, "usr_ann");
    await w.until(login.client.logout());
    assert.equal(login.user.value, null);
    scope.stop();
    assert.throws(() => createApp({}).runWithContext(() => vue.useHandstamp()), /app.use/);
  });

  it("the core is under 4 KB", () => {
    world();
    const { length } = gzipSync(readFileSync(new URL("../dist/index.js", import.meta.url)), { level: 9 });
    assert.ok(length < 4096, `${String(length)} bytes`);
  });

  it("nothing is imported, and no global is touched at import", () => {
    world();
    const text = readFileSync(new URL("../dist/index.js", import.meta.url), "utf8");
    assert.doesNotMatch(text, /\bimport\b|navigator\.locks/);
  });
});
