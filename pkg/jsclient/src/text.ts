const url64 = (bytes: Uint8Array) =>
  btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");

const bytesOf = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));

export const random = () => url64(crypto.getRandomValues(new Uint8Array(32)));

/** The S256 challenge of a code verifier (RFC 7636, section 4.2). */
export const challengeOf = async (verifier: string) => url64(new Uint8Array(await crypto.subtle.digest("SHA-256", bytesOf(verifier))));

export type Claims = Record<string, unknown>;

/**
 * The claims of a token, unverified: it came from the service itself, over TLS (OpenID Connect Core, section 3.1.3.7). escape turns
 * the bytes into what decodeURIComponent reads as UTF-8; TextDecoder is missing from React Native.
 */
export const claimsOf = (token = "") =>
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- see above
  JSON.parse(decodeURIComponent(escape(atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/"))))) as Claims;

export type Fields = Record<string, string | undefined>;

/** A form's body, or a query. Without URLSearchParams, of which React Native has half. */
export const formOf = (fields: Fields) =>
  Object.entries(fields)
    .filter(([, value]) => value)
    .map((pair) => pair.map((text) => encodeURIComponent(text ?? "")).join("="))
    .join("&");
