// A world without waiting: a clock that tests move, tabs that hear each other, and a service that keeps the rules of
// api/PROTOCOL.md, section "Sessions and refresh".
import { type Client, createClient, type Options } from "../src/index.js";

const real = { setTimeout, clearTimeout, now: Date.now, fetch: globalThis.fetch, BroadcastChannel: globalThis.BroadcastChannel };

/** Runs what is ready, without moving the clock. */
export const settle = () =>
  new Promise<void>((resolve) => {
    setImmediate(() => {
      setImmediate(resolve);
    });
  });

class Clock {
  time = Date.parse("2026-03-01T12:00:00Z");
  #timers = new Map<number, { at: number; run: () => void }>();
  #last = 0;

  install() {
    Date.now = () => this.time;
    globalThis.setTimeout = ((run: () => void, ms = 0) => {
      this.#timers.set(++this.#last, { at: this.time + ms, run });
      return this.#last;
    }) as unknown as typeof setTimeout;
    globalThis.clearTimeout = ((id: number) => this.#timers.delete(id)) as unknown as typeof clearTimeout;
  }

  get pending() {
    return this.#timers.size;
  }

  #due(until: number) {
    return [...this.#timers].filter(([, timer]) => timer.at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
  }

  /** Lets time pass, and everything happen in it. */
  async pass(seconds: number) {
    const until = this.time + seconds * 1000;
    await settle();
    for (let due = this.#due(until); due; due = this.#due(until)) {
      this.#timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].run();
      await settle();
    }
    this.time = until;
    await settle();
  }

  /** Lets time pass in which nothing runs; overdue timers fire afterwards. */
  async sleep(seconds: number) {
    this.time += seconds * 1000;
    await this.pass(0);
  }
}

class Channel {
  static open = new Set<Channel>();
  onmessage: ((event: { data: unknown }) => void) | null = null;

  constructor(readonly name: string) {
    Channel.open.add(this);
  }

  postMessage(data: unknown) {
    for (const other of Channel.open) {
      if (other === this || other.name !== this.name) continue;
      const copy: unknown = structuredClone(data);
      queueMicrotask(() => {
        if (Channel.open.has(other)) other.onmessage?.({ data: copy });
      });
    }
  }

  close() {
    Channel.open.delete(this);
  }
}

class Storage {
  [name: string]: unknown;
  getItem(name: string) {
    return (this[name] as string | undefined) ?? null;
  }
  setItem(name: string, value: string) {
    this[name] = value;
  }
  removeItem(name: string) {
    // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- what a Storage does
    delete this[name];
  }
}

/** What the service was asked. */
export interface Asked {
  method: string;
  path: string;
  headers: Headers;
  body: string;
  fields: URLSearchParams;
  init: RequestInit;
}

interface Session {
  sid: string;
  sub: string;
  generation: number;
  rotated: number;
  key: string | null;
  over: boolean;
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

export const issuer = "https://auth.example.com";

export class World {
  readonly clock = new Clock();
  /** How far the clock of this device is ahead of the service's, in seconds. */
  ahead = 0;
  readonly asked: Asked[] = [];
  readonly sessions = new Map<string, Session>();
  /** The browser's cookie. */
  jar: string | undefined;
  /** Comes between: its answer is taken in place of the service's. `answered` is called for what the service would have said. */
  between: ((asked: Asked, answered: () => Response) => Response | Promise<Response> | undefined) | undefined;
  nonce: string | undefined;
  sub = "usr_ann";
  readonly tabs: Client[] = [];
  #clients = new Set<Client>();

  constructor(readonly cookie = false) {
    this.clock.install();
    globalThis.fetch = this.fetch;
    globalThis.BroadcastChannel = Channel as unknown as typeof BroadcastChannel;
    this.browser(true);
  }

  /** Gives a page and its storage, or takes them away. */
  browser(there: boolean) {
    const events = new EventTarget();
    const url = new URL("https://app.example.com/orders?page=2");
    const page = {
      location: Object.assign(url, { assign: (to: string) => this.visited.push(to) }),
      document: {},
      sessionStorage: new Storage(),
      localStorage: new Storage(),
      history: { state: null, replaceState: (_: unknown, __: string, to: URL) => (page.location.href = to.href) },
      addEventListener: events.addEventListener.bind(events),
      removeEventListener: events.removeEventListener.bind(events),
      dispatchEvent: events.dispatchEvent.bind(events),
    };
    for (const [name, value] of Object.entries(page)) {
      Object.defineProperty(globalThis, name, { value: there ? value : undefined, configurable: true, writable: true });
    }
  }
  readonly visited: string[] = [];

  tab(options: Partial<Options> = {}) {
    const client = createClient({ issuer, clientId: "spa", transport: this.cookie ? "cookie" : "body", ...options });
    this.#clients.add(client);
    client.on("change", () => undefined); // the tab is there
    return client;
  }

  end() {
    for (const client of this.#clients) client.dispose();
    Channel.open.clear();
    globalThis.setTimeout = real.setTimeout;
    globalThis.clearTimeout = real.clearTimeout;
    Date.now = real.now;
    globalThis.fetch = real.fetch;
    globalThis.BroadcastChannel = real.BroadcastChannel;
    this.browser(false);
  }

  /** Moves the clock until a promise has settled, and returns what became of it. */
  async until<T>(promise: Promise<T>, seconds = 30): Promise<T> {
    let done = false;
    const mark = () => {
      done = true;
    };
    promise.then(mark, mark);
    await settle();
    const end = this.clock.time + seconds * 1000;
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- mark is called meanwhile
    while (!done) {
      if (this.clock.time > end) throw new Error("still pending");
      await this.clock.pass(0.05);
    }
    return promise;
  }

  count(path: string) {
    return this.asked.filter((asked) => asked.path === path).length;
  }

  get service() {
    return this.clock.time - this.ahead * 1000;
  }

  // The service.

  readonly fetch = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    if (input instanceof Request) {
      return this.api(input);
    }
    const url = new URL(input);
    const body = typeof init.body === "string" ? init.body : "";
    const asked = { method: init.method ?? "GET", path: url.pathname, headers: new Headers(init.headers), body, fields: new URLSearchParams(body), init };
    this.asked.push(asked);
    const stopped = new Promise<never>((_, reject) => {
      init.signal?.addEventListener("abort", () => {
        reject(new DOMException("aborted", "AbortError"));
      });
    });
    if (init.signal?.aborted) throw new DOMException("aborted", "AbortError");
    await Promise.resolve();
    return Promise.race([this.between?.(asked, () => this.#answer(asked)) ?? this.#answer(asked), stopped]);
  };

  /** An API at another place; tests replace it. */
  api: (request: Request) => Response | Promise<Response> = () => new Response("hello");

  readonly json = (status: number, body: unknown, headers: Record<string, string> = {}) =>
    new Response(body === null ? null : JSON.stringify(body), { status, headers: { Date: new Date(this.service).toUTCString(), ...headers } });

  #tokens(session: Session, status = 200) {
    const refresh = `${session.sid}.${String(session.generation)}`;
    const seconds = Math.floor(this.service / 1000);
    const claims = { iss: issuer, sub: session.sub, sid: session.sid, iat: seconds, exp: seconds + 900, scope: "openid", jti: Math.random() };
    const id = { iss: issuer, aud: "spa", sub: session.sub, name: "Zoë 😀", nonce: this.nonce, iat: seconds };
    if (this.cookie) this.jar = refresh;
    return this.json(status, {
      access_token: `h.${encode(claims)}.s`,
      token_type: "Bearer",
      expires_in: 900,
      id_token: `h.${encode(id)}.s`,
      ...(this.cookie ? { refresh_token_transport: "cookie" } : { refresh_token: refresh }),
    });
  }

  begin() {
    const session = { sid: `ses_${String(this.sessions.size)}`, sub: this.sub, generation: 0, rotated: 0, key: null, over: false };
    this.sessions.set(session.sid, session);
    return session;
  }

  #find(text: string | null | undefined) {
    const [sid = "", generation] = (text ?? "").split(".");
    return { session: this.sessions.get(sid), generation: Number(generation) };
  }

  #answer({ method, path, headers, fields }: Asked): Response {
    const shown = this.cookie ? this.jar : (fields.get("refresh_token") ?? fields.get("token"));
    const { session, generation } = this.#find(shown);
    switch (`${method} ${path}`) {
      case "POST /v1/login":
        return this.#tokens(this.begin());
      case "POST /v1/signup":
        return this.#tokens(this.begin(), 201);
      case "GET /v1/session":
        return session && !session.over ? this.json(200, { user_id: session.sub }) : this.json(204, null);
      case "POST /oauth2/revoke":
        if (session) session.over = true;
        this.jar = undefined;
        return this.json(200, {});
      case "DELETE /v1/sessions":
        for (const one of this.sessions.values()) one.over = true;
        return this.json(204, null);
      case "POST /oauth2/token": {
        if (fields.get("grant_type") === "authorization_code") return this.#tokens(this.begin());
        const refused = () => this.json(400, { error: "invalid_grant", error_description: "the refresh token is not valid" });
        if (!session || session.over) return refused();
        const key = headers.get("Idempotency-Key");
        if (generation === session.generation) {
          Object.assign(session, { generation: generation + 1, rotated: this.clock.time, key });
          return this.#tokens(session);
        }
        if (generation === session.generation - 1 && ((key && key === session.key) || this.clock.time - session.rotated <= 30_000)) {
          return this.#tokens(session);
        }
        session.over = true;
        return refused();
      }
    }
    return this.json(404, { code: "not_found" });
  }

  get alive() {
    return [...this.sessions.values()].every((session) => !session.over);
  }
}

export const credentials = { email: "ann@example.com", password: "violet-otter-93" };
export const code = (promise: Promise<unknown>) => promise.then(() => "ok", (e: unknown) => (e as { code?: string }).code ?? String(e));
