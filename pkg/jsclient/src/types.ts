/** What a client needs to know. */
export interface Options {
  /** The address of the service, as it is in tokens. */
  issuer: string;
  clientId: string;
  /** What logins ask for, separated by spaces. Without it they ask for what the client is registered for, except OpenID Connect's scopes. */
  scope?: string;
  /**
   * How the refresh token travels, as the client is registered with `--refresh-transport`. With `cookie` no script can read it, and a
   * reload keeps the login. With `body` (the default) it is in memory, or in the `store`.
   */
  transport?: "body" | "cookie";
  /** Where logins come back to; the root of the page's origin by default. It must be registered. */
  redirectUri?: string;
  /** Keeps the session of an application that is no web page, in its key chain. For the transport `body` only. */
  store?: Store;
  /** The time limit of every call in milliseconds; 10 seconds by default. The service counts on less than 30. */
  timeout?: number;
  /** What sends requests, in place of the global `fetch`. */
  fetch?: typeof fetch;
}

/** A place for one text, which nobody else can read. Several processes of an application may share it. */
export interface Store {
  get(): string | null | undefined | Promise<string | null | undefined>;
  /** Keeps the text, or removes it for null. It is kept when the promise resolves. */
  set(value: string | null): unknown;
}

/** Who has logged in: the claims of the ID token where the scope has `openid`, and of the access token. */
export interface User {
  /** The user's ID. */
  sub: string;
  /** The session's ID. */
  sid?: string;
  roles?: string[];
  scope?: string;
  email?: string;
  email_verified?: boolean;
  name?: string;
  [claim: string]: unknown;
}

/** How a login at the hosted pages is asked for: parameters of the authorization request, and the way back. */
export interface LoginOptions {
  /** What `handleCallback` returns, to go on there; the present address by default. */
  returnTo?: string;
  redirectUri?: string;
  /** `login` asks for the password again, `create` leads to the sign-up. */
  prompt?: string;
  /** The e-mail address, if it is known. */
  login_hint?: string;
  /** How many seconds ago the user may have logged in (RFC 9470). */
  max_age?: string;
  acr_values?: string;
  /** Leads to this provider. */
  provider?: string;
  ui_locales?: string;
  resource?: string;
}

export interface Credentials {
  email: string;
  password: string;
}

export interface TokenOptions {
  /** How many seconds the token must last. */
  minValidity?: number;
  /** Gives up waiting; what others wait for goes on. */
  signal?: AbortSignal | undefined;
}

/** A login at the service. Every call settles within its time limit. */
export interface Client {
  /** Sends the browser to the hosted pages. */
  login(options?: LoginOptions): Promise<void>;
  /** Takes the answer of the hosted pages from the address; null if there is none. */
  handleCallback(): Promise<{ user: User; returnTo: string } | null>;
  loginWithPassword(credentials: Credentials): Promise<User>;
  /** Creates a user, who is logged in then; null if the address has to be verified before. */
  signup(details: Credentials & { name?: string }): Promise<User | null>;
  /** Ends the session, or with `everywhere` all sessions of the user. That one wants the scope `account`. */
  logout(options?: { everywhere?: boolean }): Promise<void>;
  /** Returns an access token, refreshed if need be. Fails with the code `login_required` if nobody is logged in. */
  getAccessToken(options?: TokenOptions): Promise<string>;
  /** Is `fetch` with the access token. It refreshes once if the token is refused, and logs in anew if the API asks for that. */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  /** Returns who is logged in, or null for nobody. */
  user(): Promise<User | null>;
  /** Calls back when another user is logged in, or nobody; returns what ends that. */
  on(event: "change", handler: (user: User | null) => void): () => void;
  /** Lets go of the page: no more events, nothing heard of other tabs. The next call takes it up again. */
  dispose(): void;
}

/** Why a call failed. */
export class HandstampError extends Error {
  override readonly name = "HandstampError";

  constructor(
    /**
     * The service's code (`invalid_credentials`, `email_taken`), or one of `login_required` (nobody is logged in), `network`, `timeout`,
     * `superseded` (a login or logout came in between), `state_mismatch` and `issuer_mismatch` (the answer belongs to no login of this tab,
     * or comes from another service), `nonce_mismatch`, `transport_mismatch` (the client is registered with the other one), `unsupported` (there is no page to redirect).
     */
    readonly code: string,
    message = code,
    /** The status of the answer, if there was one. */
    readonly status?: number,
    /** In how many seconds to try again, if the service said so. */
    readonly retryAfter?: number,
    /** The body of the answer. */
    readonly body?: Readonly<Record<string, unknown>> | null,
  ) {
    super(message);
  }
}
