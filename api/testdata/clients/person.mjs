#!/usr/bin/env node
// The person at the browser, where a test needs no real one: keeps cookies, follows redirects, fills in the login form, allows what is asked. As a
// program it is the BROWSER that AppAuth opens: it goes where the login leads, which is the application's own loopback server.
import { pathToFileURL } from "node:url";

const decode = (text) => text.replaceAll("&#34;", '"').replaceAll("&#39;", "'").replaceAll("&#43;", "+").replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

export class Person {
  cookies = new Map();

  constructor({ email, password }) {
    Object.assign(this, { email, password });
  }

  async fetch(url, options = {}) {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, { ...options, redirect: "manual", headers: { ...options.headers, ...(cookie && { cookie }) } });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (/max-age=0/i.test(line)) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    return response;
  }

  // browse goes on until the login leads away from the issuer, and returns the address there. On the way it fills in what it is asked.
  async browse(address) {
    const origin = new URL(address).origin;
    let response = await this.fetch(address, { headers: { "sec-fetch-site": "none" } });
    for (let step = 0; step < 10; step++) {
      if (response.headers.has("location")) {
        const to = new URL(response.headers.get("location"), response.url);
        if (to.origin !== origin) return to;
        response = await this.fetch(to);
        continue;
      }
      const page = await response.text();
      const form = /<form[^>]*id="(login|consent|continue|logout)"[^>]*action="([^"]*)"[^>]*>(.*?)<\/form>/s.exec(page);
      if (!form || !response.ok) throw new Error(`${response.status} at ${response.url}: ${page}`);
      const body = new URLSearchParams();
      for (const [, name, value] of form[3].matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g)) body.set(name, decode(value));
      if (form[1] === "login") { body.set("email", this.email); body.set("password", this.password); }
      if (form[1] === "consent") body.set("decision", "allow");
      response = await this.fetch(new URL(decode(form[2]), response.url), { method: "POST", body, headers: { origin, "sec-fetch-site": "same-origin" } });
    }
    throw new Error("the login leads nowhere");
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const person = new Person(JSON.parse(process.env.PERSON));
  const answer = await fetch(await person.browse(process.argv[2]));
  await answer.text();
}
