// The demo. What an application needs is the first part; the rest is play and picture.
import { createClient } from "./handstamp.js";

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
const $ = (id) => document.getElementById(id);
const issuer = meta("issuer");

// ---- What a single-page application does ----

const newTab = () => createClient({
	issuer,
	clientId: meta("browser-client"),
	scope: "openid profile email account",
	transport: "cookie",
});
const handstamp = newTab();

async function start() {
	try {
		const back = await handstamp.handleCallback();
		if (back) tell("browser", "Logged in at the hosted page", "The page got a code, and exchanged it with PKCE for an access token and a cookie.", "begins");
	} catch (error) {
		fail(error);
	}
	const user = await handstamp.user();
	if (user && !alive.browser) tell("browser", "Still logged in", "The cookie brought a new access token: reloading logs nobody out.", "begins");
	show(user);
	handstamp.on("change", show);
}

const hello = async () => (await handstamp.fetch("/api/hello")).json();

// ---- The phone: the same by hand, since the play loses its answers and steals its token ----

const phone = { id: meta("phone-client"), access: "", refresh: "", sid: "", generation: 0 };
let stolen = "";
let password = "";

async function post(path, fields, headers = {}) {
	const response = await fetch(issuer + path, { method: "POST", headers, body: new URLSearchParams(fields) });
	return { ok: response.ok, status: response.status, body: await response.json().catch(() => ({})) };
}

const newKey = () => crypto.randomUUID();
const refreshWith = (token, key) =>
	post("/oauth2/token", { grant_type: "refresh_token", client_id: phone.id, refresh_token: token }, { "Idempotency-Key": key });
const claimsOf = (token) => JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
const short = (token) => `…${token.slice(-6)}`;

function take(answer) {
	phone.access = answer.access_token;
	phone.refresh = answer.refresh_token;
	phone.sid = claimsOf(phone.access).sid;
	phone.generation++;
}

async function api(token) {
	const response = await fetch("/api/hello", { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
	return response.ok;
}

/** Calls the API with a token until it is refused, and says after how long. */
async function untilRefused(token, since) {
	while (performance.now() - since < 5000) {
		if (!(await api(token))) {
			tell("api", `Refused by the API after ${Math.round(performance.now() - since)} ms`,
				"The API checks tokens by itself, and follows the feed of revocations. It asked nobody.", "", "bad");
			return;
		}
	}
	tell("api", "Not refused within five seconds", "Something is wrong.", "", "bad");
}

function phoneEnds() {
	phone.access = phone.refresh = stolen = "";
	phone.generation = 0;
	paintPhone();
	void devices();
}

// ---- The picture ----

const lanes = ["browser", "phone", "thief", "api"];
const alive = {};

/** Adds an event: in whose lane, what happened, why, whether a life begins or ends, and how it is meant. */
function tell(lane, title, detail, edge = "", mood = "") {
	const item = document.createElement("li");
	for (const each of lanes) {
		const cell = document.createElement("span");
		const here = each === lane;
		cell.className = `lane ${each}`;
		if (here) cell.classList.add("here");
		if (here && edge) cell.classList.add(edge);
		if (alive[each] || (here && edge === "begins" && each !== "api")) cell.classList.add("alive");
		item.append(cell);
	}
	if (edge === "begins") alive[lane] = true;
	if (edge === "ends") alive[lane] = false;
	const what = document.createElement("div");
	what.className = "what";
	const strong = document.createElement("strong");
	strong.textContent = title;
	if (mood) strong.className = mood;
	const small = document.createElement("small");
	const time = document.createElement("time");
	const now = new Date();
	time.dateTime = now.toISOString();
	time.textContent = `${now.toLocaleTimeString("en-GB")}.${String(now.getMilliseconds()).padStart(3, "0")}`;
	small.append(time, ` ${lane === "api" ? "API" : lane}. ${detail}`);
	what.append(strong, small);
	item.append(what);
	$("line").prepend(item);
	$("empty").hidden = true;
	while ($("line").children.length > 200) $("line").lastChild.remove();
}

function end(lane, title, detail, mood = "") {
	if (alive[lane]) tell(lane, title, detail, "ends", mood);
}

function fail(error) {
	$("error").textContent = error.message || String(error);
	$("error").hidden = false;
	clearTimeout(fail.timer);
	fail.timer = setTimeout(() => { $("error").hidden = true; }, 6000);
}

/** Lets a button do something once at a time, and shows what goes wrong. */
function on(id, work, event = "click") {
	$(id).addEventListener(event, async (e) => {
		e.preventDefault();
		const button = e.submitter ?? e.currentTarget;
		button.disabled = true;
		try {
			await work(e);
		} catch (error) {
			fail(error);
		} finally {
			button.disabled = false;
		}
	});
}

// ---- What is shown ----

let shown = null;

function show(user) {
	if (shown && !user) {
		end("browser", "Logged out", "The session is over, in this tab and in every other.");
		if (phone.refresh) phoneEnds();
	}
	shown = user;
	$("out").hidden = !!user;
	for (const id of ["browser", "phone", "devices"]) $(id).hidden = !user;
	if (!user) return;
	$("who").textContent = user.email ?? user.sub;
	paintPhone();
	void devices();
}

function paintPhone() {
	const on = !!phone.refresh;
	$("phone-login").hidden = on;
	$("phone-password").hidden = !!password;
	$("phone-buttons").hidden = !on;
	$("theft").hidden = !on;
	$("found").hidden = !stolen;
	$("steal").hidden = !!stolen;
	$("theft-text").textContent = stolen
		? "has gone on with the token: it works. Now let the phone refresh with the token that it still has."
		: "copies the refresh token of the phone. Nobody notices yet.";
}

async function devices() {
	const response = await handstamp.fetch(`${issuer}/v1/sessions`).catch(() => null); // logged out meanwhile
	if (!response?.ok) return;
	const { sessions } = await response.json();
	$("list").replaceChildren(...sessions.map((s) => {
		const item = document.createElement("li");
		const text = document.createElement("span");
		text.textContent = s.client_id === phone.id ? "A phone" : "A browser";
		if (s.current) text.textContent += " (this one)";
		const small = document.createElement("small");
		small.textContent = `since ${new Date(s.created_at).toLocaleTimeString("en-GB")}, ${s.ip ?? ""}`;
		text.append(small);
		item.append(text);
		if (!s.current) {
			const button = document.createElement("button");
			button.textContent = "End this session";
			button.addEventListener("click", () => void endSession(s.id, button));
			item.append(button);
		}
		return item;
	}));
}

async function endSession(id, button) {
	if (button) button.disabled = true;
	const token = id === phone.sid ? phone.access : "";
	const response = await handstamp.fetch(`${issuer}/v1/sessions/${id}`, { method: "DELETE" });
	const since = performance.now();
	if (!response.ok) return fail(new Error(`The session was not ended: ${response.status}`));
	if (token) {
		tell("browser", "Ended the session of the phone", "Revoked in the database, and told to everybody who follows the feed.");
		await untilRefused(token, since);
		end("phone", "The phone is logged out", "Its refresh token is of no use any more.");
		phoneEnds();
	}
	await devices();
}

setInterval(async () => {
	if (!shown || document.hidden) return;
	const token = await handstamp.getAccessToken().catch(() => "");
	if (!token) return;
	const { iat, exp } = claimsOf(token);
	const left = Math.max(0, exp - Date.now() / 1000);
	$("left").value = left / (exp - iat);
	$("left-text").textContent = `${Math.floor(left / 60)} min ${Math.floor(left % 60)} s`;
}, 1000);

// ---- The buttons ----

on("enter", async (e) => {
	const form = new FormData($("enter"));
	const credentials = { email: form.get("email"), password: form.get("password") };
	if (e.submitter?.value === "login") await handstamp.loginWithPassword(credentials);
	else await handstamp.signup(credentials);
	password = credentials.password;
	tell("browser", "Logged in", "An access token for 15 minutes in memory, and a refresh token in a cookie that no script reads.", "begins");
	paintPhone();
}, "submit");

on("hosted", () => handstamp.login());

on("call", async () => {
	await hello();
	tell("api", "The API answered", "It checked the signature with the published keys, and asked nobody.", "", "good");
});

on("refresh", async () => {
	await handstamp.getAccessToken({ minValidity: 1e9 });
	tell("browser", "Refreshed", "A new access token; the cookie holds the next refresh token, and the last one is used up.");
	await devices();
});

on("many", async () => {
	const tabs = Array.from({ length: 20 }, newTab);
	const answers = await Promise.allSettled(tabs.map((tab) => tab.getAccessToken()));
	for (const tab of tabs) tab.dispose();
	const good = answers.filter((a) => a.status === "fulfilled").length;
	tell("browser", `20 tabs at once: ${good} have a token, nobody is logged out`,
		"Each asked for itself, and waited for no other. The service answers those that come at once with the same token.", "",
		good === 20 ? "good" : "bad");
});

on("logout", () => handstamp.logout());

on("everywhere", async () => {
	const token = phone.access;
	await handstamp.logout({ everywhere: true });
	if (token) {
		await untilRefused(token, performance.now());
		end("phone", "The phone is logged out, too", "It hears of it at its next request.");
		phoneEnds();
	}
});

on("phone-login", async () => {
	const typed = password || new FormData($("phone-login")).get("password");
	const user = await handstamp.user();
	const response = await fetch(`${issuer}/v1/login`, {
		method: "POST",
		headers: { "Content-Type": "application/json" },
		body: JSON.stringify({ email: user.email, password: typed, client_id: phone.id }),
	});
	const answer = await response.json();
	if (!response.ok) throw new Error(answer.detail ?? answer.title);
	password = typed;
	take(answer);
	tell("phone", "The phone is logged in", `A session of its own. Its refresh token ends in ${short(phone.refresh)}.`, "begins");
	paintPhone();
	await devices();
}, "submit");

on("phone-call", async () => {
	if (await api(phone.access)) tell("api", "The API answered the phone", "It checked the token by itself.", "", "good");
	else tell("api", "The API refused the phone", "", "", "bad");
});

on("phone-refresh", async () => {
	const answer = await refreshWith(phone.refresh, newKey());
	if (!answer.ok) return phoneRefused(answer);
	take(answer.body);
	tell("phone", "The phone refreshed", `The next refresh token ends in ${short(phone.refresh)}.`);
	await devices();
});

on("phone-lost", async () => {
	// The key is chosen before the first request, and sent with every repeat.
	const key = newKey();
	const first = await refreshWith(phone.refresh, key);
	if (!first.ok) return phoneRefused(first);
	tell("phone", "The phone refreshed, and the answer was lost", `The service has made ${short(first.body.refresh_token)}, and the phone does not know.`);
	const second = await refreshWith(phone.refresh, key);
	if (!second.ok) return phoneRefused(second);
	const same = second.body.refresh_token === first.body.refresh_token;
	take(second.body);
	tell("phone", same ? "The lost answer was repeated" : "The repeat brought another token",
		`The same request again, and the same token again: ${short(phone.refresh)}. Nobody is logged out by a bad network.`, "", same ? "good" : "bad");
});

on("phone-end", () => endSession(phone.sid));

on("steal", async () => {
	stolen = phone.refresh;
	tell("thief", "The thief has the refresh token", `A copy of ${short(stolen)}. The phone does not notice.`, "begins", "bad");
	for (let i = 0; i < 2; i++) {
		const answer = await refreshWith(stolen, newKey());
		if (!answer.ok) return phoneRefused(answer);
		stolen = answer.body.refresh_token;
		phone.access = answer.body.access_token; // of the same session
		tell("thief", "The thief refreshed", `It works: ${short(stolen)}. Whoever has a token is believed.`);
	}
	paintPhone();
});

on("found", async () => {
	const since = performance.now();
	const answer = await refreshWith(phone.refresh, newKey());
	if (answer.ok) return fail(new Error("The theft was not found."));
	await phoneRefused(answer, since);
});

async function phoneRefused(answer, since = performance.now()) {
	const token = phone.access;
	if (stolen) {
		tell("phone", "Theft found: two parties use one token", "The phone came with a token that was used up. The session ended for both.", "ends", "bad");
		await untilRefused(token, since);
		const thief = await refreshWith(stolen, newKey());
		end("thief", thief.ok ? "The thief goes on" : "The thief is out", "What was stolen is of no use any more.", thief.ok ? "bad" : "good");
	} else {
		end("phone", "The phone is logged out", answer.body.error_description ?? `The service answered ${answer.status}.`, "bad");
	}
	phoneEnds();
}

$("enter").elements.email.value = `me-${Math.random().toString(36).slice(2, 7)}@example.com`;
$("enter").elements.password.value = "violet-otter-93";
void start();
