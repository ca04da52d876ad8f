export { createClient } from "./client.js";
export { HandstampError } from "./types.js";
export type { Client, Credentials, LoginOptions, Options, Store, TokenOptions, User } from "./types.js";
