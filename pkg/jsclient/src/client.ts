import { challengeOf, type Claims, claimsOf, type Fields, formOf, random } from "./text.js";
import { type Client, HandstampError, type LoginOptions, type Options, type User } from "./types.js";

/** What is known of a session. */
interface State {
  /**
   * Puts states in order: the time of the login in milliseconds, and one more for each rotation. Tabs that refresh at once with one
   * refresh token get the same successor, so this counts generations, and a message that comes late never brings an old token back.
   * Where the browser keeps the refresh token, the time of the answer is good enough.
   */
  version: number;
  access: string;
  /** The time of the service at which the access token expires, in milliseconds. */
  expires: number;
  user: User | undefined;
  refresh: string | undefined;
}

/** What tabs tell each other. */
interface Message {
  /** Asks the others for what they know. */
  ask?: boolean;
  state?: State | undefined;
  /** A rotation is about to be asked for with this Idempotency-Key. */
  key?: string | undefined;
  /** The ID of the session that was logged out; empty if it was not known. */
  out?: string;
}

/** The answer of the token endpoint (RFC 6749, section 5.1). */
interface Answer extends Claims {
  access_token?: string;
  expires_in?: number;
  refresh_token?: string;
  id_token?: string;
}

interface Slot {
  verifier: string;
  nonce: string;
  redirectUri: string;
  returnTo: string;
  at: number;
}

const slotLifetime = 3_600_000;
/** Claims of the token, not of the user: they change with each. */
const ofTheToken = new Set(["iss", "aud", "azp", "iat", "exp", "nbf", "jti", "nonce", "at_hash", "client_id"]);

/** React Native has no reason. */
const reasonOf = (signal: AbortSignal) => (signal.reason ?? new HandstampError("aborted")) as Error;

const ofTheCallback = ["state", "code", "error", "error_description", "iss"];

const newer = (a: State, b: State | null | undefined) => !b || a.version > b.version;

/** A server that renders pages has no location, and no browser's cookies; React Native has none either. A worker has one. */
const inBrowser = () => typeof location !== "undefined";
const hasPage = () => typeof document !== "undefined";

/** Failures of which the outcome is unknown, and after which the same request can be sent again. */
const passes = ({ code, status = 0 }: HandstampError) => code === "network" || status >= 500 || status === 429;

export function createClient(options: Options): Client {
  const { clientId, scope, store } = options;
  const issuer = options.issuer.replace(/\/$/, "");
  const cookie = options.transport === "cookie";
  const timeout = options.timeout ?? 10_000;
  const request: typeof fetch = (input, init) => (options.fetch ?? fetch)(input, init);
  const slots = `handstamp.${clientId}.`;
  const handlers = new Set<(user: User | null) => void>();

  /** Undefined as long as nothing is known, null if nobody is logged in. */
  let state: State | null | undefined;
  /** The Idempotency-Key of the rotation that has not been answered. */
  let key: string | undefined;
  /** The last one that this tab has made. */
  let mine: string | undefined;
  /** Changes with every login and logout: what was begun before is nobody's any more. */
  let epoch = 0;
  let ended: string | undefined;
  let flight: Promise<State> | undefined;
  let search: Promise<void> | undefined;
  let callback: ReturnType<Client["handleCallback"]> | undefined;
  let cancel: (() => void) | undefined;
  let skew = 0;
  let notBefore = 0;
  let started = false;
  let channel: BroadcastChannel | undefined;
  let heard: (() => void) | undefined;

  const now = () => Date.now() + skew;
  const post = (message: Message) => {
    channel?.postMessage(message);
  };
  const fresh = (s: State | null | undefined, seconds: number): s is State => !!s && s.expires - seconds * 1000 > now();

  // Time limits. No timer and no request outlives its call.

  const limit = <T>(work: (signal: AbortSignal, stop: (reason: Error) => void) => Promise<T>): Promise<T> =>
    new Promise<T>((resolve, reject) => {
      const controller = new AbortController();
      const stop = (reason: Error) => {
        clearTimeout(timer);
        reject(reason);
        controller.abort();
      };
      const timer = setTimeout(() => {
        stop(new HandstampError("timeout"));
      }, timeout);
      work(controller.signal, stop).then((value) => {
        clearTimeout(timer);
        resolve(value);
      }, stop);
    });

  const pause = (ms: number, signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(new HandstampError("timeout"));
      });
    });

  // Requests to the service.

  const send = async (signal: AbortSignal, method: string, path: string, headers: Record<string, string> = {}, body?: string): Promise<Answer | null> => {
    const bearer = !!headers["Authorization"];
    const [response, text] = await request(issuer + path, {
      method,
      headers: cookie && !bearer ? { ...headers, "X-Handstamp-Client": clientId } : headers,
      ...(body && { body }),
      signal,
      cache: "no-store",
      credentials: bearer ? "omit" : cookie ? "include" : "same-origin",
      keepalive: true, // the answer's cookie is taken also when the page goes away meanwhile
    })
      .then(async (r) => [r, await r.text()] as const)
      .catch((e: unknown) => {
        throw new HandstampError("network", String(e));
      });
    if (signal.aborted) throw new HandstampError("timeout");
    const ahead = Date.parse(response.headers.get("Date") ?? "") - Date.now();
    if (ahead) skew = Math.abs(ahead) < 2000 ? 0 : ahead; // it has whole seconds
    let answer: Claims | null = null;
    try {
      answer = JSON.parse(text) as Claims;
    } catch {
      if (response.ok && text) throw new HandstampError("network"); // somebody else's page
    }
    if (response.ok) return answer;
    const { error, code, error_description, detail } = (answer ?? {}) as Fields;
    throw new HandstampError(
      error ?? code ?? "server_error",
      error_description ?? detail,
      response.status,
      Number(response.headers.get("Retry-After")) || undefined,
      answer,
    );
  };

  const form = (signal: AbortSignal, path: string, fields: Fields, headers?: Record<string, string>) =>
    send(signal, "POST", path, { ...headers, "Content-Type": "application/x-www-form-urlencoded" }, formOf({ client_id: clientId, ...fields }));

  const json = (signal: AbortSignal, path: string, fields: Fields) =>
    send(signal, "POST", path, { "Content-Type": "application/json" }, JSON.stringify({ client_id: clientId, scope, ...fields }));

  /** Repeats what may be repeated, and keeps to Retry-After; a wait that the call has no time for is a failure at once. */
  const persist = async <T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> => {
    const until = Date.now() + timeout;
    let failure = new HandstampError("temporarily_unavailable", undefined, 503, (notBefore - Date.now()) / 1000);
    for (let tries = 0, delay = 0; ; ) {
      const wait = Math.max(notBefore - Date.now(), delay);
      if (wait > 0) {
        if (Date.now() + wait < until) await pause(wait, signal);
        else throw failure;
        if (Date.now() > until) throw failure; // it was a sleep
      }
      try {
        return await work();
      } catch (e) {
        failure = e as HandstampError;
        if (!passes(failure) || signal.aborted || ++tries > 2) throw e;
        notBefore = Date.now() + (failure.retryAfter ?? 0) * 1000;
        delay = 200 * 4 ** tries * (0.5 + Math.random() / 2);
      }
    }
  };

  // What is known.

  const become = (next: State | null) => {
    const before = JSON.stringify(state?.user);
    state = next;
    key = undefined;
    const user = next?.user;
    if (before !== JSON.stringify(user)) {
      for (const handler of handlers) {
        queueMicrotask(() => {
          handler(user ?? null);
        });
      }
    }
  };

  const read = async (): Promise<(State & { key?: string }) | null> => JSON.parse((await store?.get()) ?? "null") as State | null;

  const save = () => store?.set(JSON.stringify({ ...state, access: "", expires: 0, key }));

  /** Waits until another tab has told something newer, or the time is over. */
  const hearing = (ms: number, signal: AbortSignal) =>
    Promise.race([
      new Promise<void>((resolve) => {
        heard = resolve;
      }),
      pause(ms, signal),
    ]);

  /** Looks whether another tab or process knows something newer. */
  const look = async (signal: AbortSignal) => {
    if (store) {
      const kept = await read();
      if (kept && newer(kept, state)) become(kept);
      key ??= kept?.key;
    }
    for (let asked = 0; channel && Date.now() - asked > 2000; ) {
      // Again after a sleep: what the others know may have changed, and what we know may be too old to be shown.
      asked = Date.now();
      post({ ask: true, key });
      await hearing(100, signal);
    }
  };

  const later = (version = 0) => Math.max(Date.now(), version + 1);

  const accept = (answer: Answer | null, version: number): State => {
    if ((answer?.["refresh_token_transport"] === "cookie") !== cookie) throw new HandstampError("transport_mismatch");
    const access = answer?.access_token ?? "";
    const claims = claimsOf(access);
    const all = answer?.id_token ? { ...claims, ...claimsOf(answer.id_token) } : claims;
    return {
      version,
      access,
      expires: Number(claims["exp"]) * 1000,
      user: Object.fromEntries(Object.entries(all).filter(([name]) => !ofTheToken.has(name))) as User,
      refresh: cookie ? undefined : answer?.refresh_token,
    };
  };

  const supersede = () => {
    epoch++;
    cancel?.();
  };

  const loggedIn = async (answer: Answer | null): Promise<User> => {
    supersede();
    const next = accept(answer, later(state?.version));
    become(next);
    post({ state: next });
    await save();
    return next.user as User;
  };

  const forget = async () => {
    supersede();
    become(null);
    await store?.set(null);
  };

  /** A session that was logged out; a message about it that comes late does not bring it back. */
  const out = (sid = "") => {
    ended = sid;
    return forget();
  };

  // The rotation. Nothing here waits for another tab's permission: the service answers tabs that refresh at once with the same token.
  // It ends the session, however, if a request comes when two others have rotated meanwhile, unless it has a key that was seen before.
  // So tabs agree on a key, and give the one that made it a second to be first.

  const rotate = async (signal: AbortSignal, extra: Fields): Promise<State> => {
    const begun = epoch;
    const before = state;
    const current = () => {
      if (begun !== epoch) throw new HandstampError("superseded");
    };
    let again = false;
    // Keys are in the order of their time, so the first tab is followed; one that waits for an answer stays.
    key ??= mine = Date.now().toString(36) + random();
    await look(signal);
    if (key !== mine && state === before && channel) await hearing(1000, signal);
    for (;;) {
      const held = state;
      if (held && held !== before && fresh(held, 30) && !extra["resource"]) return held;
      if (cookie ? !inBrowser() : !held?.refresh) throw new HandstampError("login_required");
      try {
        const answer = await persist(signal, async () => {
          if (state !== held) return; // another tab was faster; after a sleep this token would be too old
          key ??= random();
          post({ key });
          await save();
          return form(signal, "/oauth2/token", { grant_type: "refresh_token", refresh_token: held?.refresh, ...extra }, { "Idempotency-Key": key });
        });
        current();
        if (!answer) continue;
        const next = accept(answer, cookie ? later(held?.version) : (held?.version ?? 0) + 1);
        if (extra["resource"]) next.expires = 0; // good for one purpose only
        if (store) await look(signal); // another process may have gone on meanwhile
        if (newer(next, state)) {
          become(next);
          post({ state: next });
          await save();
        }
        return next;
      } catch (e) {
        current();
        if ((e as HandstampError).code !== "invalid_grant") throw e;
        key = undefined;
        await look(signal);
        // The cookie may be another by now: the request was a late copy, or another tab was faster.
        if (again || !(cookie || state !== held)) {
          cancel = undefined;
          await forget();
          throw new HandstampError("login_required");
        }
        again = true;
      }
    }
  };

  const refresh = (extra: Fields = {}) =>
    (flight ??= limit((signal, stop) => {
      cancel = () => {
        stop(new HandstampError("superseded"));
      };
      return rotate(signal, extra);
    }).finally(() => {
      flight = cancel = undefined;
    }));

  const session = (signal: AbortSignal) => send(signal, "GET", "/v1/session", key ? { "Idempotency-Key": key } : {});

  /** Finds out who is logged in when the page has just begun. */
  const discover = () =>
    (search ??= limit(async (signal) => {
      if (cookie) {
        if (!inBrowser() || !(await persist(signal, () => session(signal)))) state ??= null;
        else if (!state) {
          await refresh().catch((e: unknown) => {
            if (!state && (e as HandstampError).code !== "login_required") throw e;
          });
        }
      } else {
        await look(signal);
        state ??= null;
      }
    }).finally(() => {
        search = undefined;
      }));

  // The page and its other tabs.

  const hear = ({ data }: MessageEvent<Message>) => {
    // One that is only proposed matters to those that refresh, too.
    if (data.key && (key ? data.key < key : !data.ask)) key = data.key;
    if (data.ask && (state || key)) post({ state: state ?? undefined, key });
    if (data.state && data.state.user?.sid !== ended && newer(data.state, state)) {
      become(data.state);
      heard?.();
    }
    if (data.out !== undefined && state && (!data.out || data.out === state.user?.sid)) void out(state.user?.sid);
  };

  const open = () => {
    if (!inBrowser() || typeof BroadcastChannel === "undefined") return;
    channel ??= new BroadcastChannel(`handstamp ${issuer} ${clientId}`);
    channel.onmessage = hear;
  };

  // An open channel would keep the page out of the back-forward cache.
  const close = () => {
    channel?.close();
    channel = undefined;
  };

  const shown = (event: PageTransitionEvent) => {
    open();
    if (!event.persisted) return;
    // Back from the cache: others may have logged in or out meanwhile.
    if (!cookie) post({ ask: true });
    else
      void limit(async (signal) => {
        const known = await session(signal);
        if (!known) await forget();
        else if (known["user_id"] !== state?.user?.sub) await refresh();
      }).catch(() => undefined);
  };

  const listen = (how: "addEventListener" | "removeEventListener") => {
    if (!hasPage()) return;
    globalThis[how]("pagehide", close);
    globalThis[how]("pageshow", shown as EventListener);
  };

  const start = () => {
    if (!started) {
      started = true;
      open();
      listen("addEventListener");
    }
  };

  const client: Client = {
    async login(o = {}) {
      if (!hasPage()) throw new HandstampError("unsupported");
      const { returnTo = location.href, redirectUri = options.redirectUri ?? location.origin + "/", ...parameters } = o;
      for (const name of Object.keys(sessionStorage)) {
        if (!name.startsWith(slots)) continue;
        const { at } = JSON.parse(sessionStorage.getItem(name) ?? "") as Slot;
        if (Math.abs(Date.now() - at) > slotLifetime) sessionStorage.removeItem(name);
      }
      const [state, nonce, verifier] = [random(), random(), random()];
      const query = formOf({
        ...parameters,
        response_type: "code",
        client_id: clientId,
        redirect_uri: redirectUri,
        scope,
        state,
        nonce,
        code_challenge: await challengeOf(verifier),
        code_challenge_method: "S256",
      });
      const slot: Slot = { verifier, nonce, redirectUri, returnTo, at: Date.now() };
      sessionStorage.setItem(slots + state, JSON.stringify(slot));
      location.assign(`${issuer}/oauth2/authorize?${query}`);
    },

    handleCallback() {
      start();
      // Strict React mounts twice: the second call gets what the first one has begun.
      if (callback || !hasPage()) return callback ?? Promise.resolve(null);
      const url = new URL(location.href);
      const query = url.searchParams;
      const [id, code, error, description, iss] = ofTheCallback.map((name) => query.get(name) ?? undefined);
      if (!id || !(code ?? error)) return Promise.resolve(null);
      const text = sessionStorage.getItem(slots + id);
      sessionStorage.removeItem(slots + id);
      for (const name of ofTheCallback) query.delete(name);
      history.replaceState(history.state, "", url);
      return (callback = limit(async (signal) => {
        if (!text) throw new HandstampError("state_mismatch"); // no login that was begun in this tab
        if (iss !== issuer) throw new HandstampError("issuer_mismatch"); // RFC 9207, section 2.4
        if (!code) throw new HandstampError(error as string, description);
        const { verifier, nonce, redirectUri, returnTo } = JSON.parse(text) as Slot;
        // A code is never sent twice: the second time ends the session (RFC 6749, section 4.1.2).
        const answer = await form(signal, "/oauth2/token", { grant_type: "authorization_code", code, redirect_uri: redirectUri, code_verifier: verifier });
        const claims = answer?.id_token && claimsOf(answer.id_token);
        if (claims && (claims["nonce"] !== nonce || claims["iss"] !== issuer || claims["aud"] !== clientId)) throw new HandstampError("nonce_mismatch");
        return { user: await loggedIn(answer), returnTo };
      }).finally(() => {
        callback = undefined;
      }));
    },

    loginWithPassword({ email, password }) {
      start();
      return limit(async (signal) => loggedIn(await json(signal, "/v1/login", { email, password })));
    },

    signup({ email, password, name }) {
      start();
      return limit(async (signal) => {
        const answer = await json(signal, "/v1/signup", { email, password, name });
        return answer?.access_token ? loggedIn(answer) : null;
      });
    },

    logout({ everywhere } = {}) {
      start();
      return limit(async (signal) => {
        try {
          if (!cookie && !state) await look(signal);
          if (everywhere) {
            while (flight) await flight.catch(() => undefined);
            const { access } = await refresh({ resource: issuer });
            await persist(signal, () => send(signal, "DELETE", "/v1/sessions", { Authorization: `Bearer ${access}` }));
          }
        } finally {
          const { refresh: token, user } = state ?? {};
          // Here at once, also while the service cannot be reached.
          post({ out: user?.sid ?? "" });
          await out(user?.sid);
          if (cookie || token) await persist(signal, () => form(signal, "/oauth2/revoke", { token }));
        }
      });
    },

    async getAccessToken({ minValidity, signal } = {}) {
      start();
      if (signal?.aborted) throw reasonOf(signal);
      if (fresh(state, minValidity ?? 30)) return state.access;
      if (state === null && channel) throw new HandstampError("login_required");
      const refreshed = refresh().then(
        ({ access }) => access,
        (e: unknown) => {
          // What is left of the token is good, if the caller has not asked for more; a login may have brought another.
          if (fresh(state, minValidity ?? 0)) return state.access;
          throw e;
        },
      );
      return new Promise<string>((resolve, reject) => {
        signal?.addEventListener("abort", () => {
          reject(reasonOf(signal));
        }, { once: true });
        refreshed.then(resolve, reject);
      });
    },

    async fetch(input, init) {
      const asked = new Request(input, init);
      const attempt = async () => {
        const token = await client.getAccessToken({ signal: asked.signal });
        const copy = asked.clone();
        copy.headers.set("Authorization", `Bearer ${token}`);
        const response = await request(copy);
        return { token, response, challenge: response.headers.get("WWW-Authenticate") ?? "" };
      };
      let last = await attempt();
      // An API on another origin may not show its challenge to the page.
      if (last.response.status === 401 && (!last.challenge || last.challenge.includes("invalid_token"))) {
        if (state?.access === last.token) state.expires = 0;
        last = await attempt().catch(() => last);
      }
      if (last.challenge.includes("insufficient_user_authentication") && hasPage()) {
        // RFC 9470, section 3
        const parameters = ["max_age", "acr_values"].map((name) => [name, new RegExp(`${name}="?([^",]+)`).exec(last.challenge)?.[1]]);
        await client.login(Object.fromEntries(parameters) as LoginOptions);
      }
      return last.response;
    },

    async user() {
      start();
      if (!state && (state !== null || !channel)) await discover();
      return state?.user ?? null;
    },

    on(_event, handler) {
      start();
      handlers.add(handler);
      return () => handlers.delete(handler);
    },

    dispose() {
      close();
      handlers.clear();
      listen("removeEventListener");
      started = false;
    },
  };
  return client;
}
