// See docs/clients/javascript.md.
/** @import * as T from "./authapi.d.ts" */

const NO_SESSION = /^(not_authenticated|invalid_token)$/;

export class AuthError extends Error {
	name = "AuthError";
	/** @param {T.Failure} failure @param {Response?} [reply] */
	constructor({ error, message, errors = [] }, reply) {
		super(message);
		this.error = error;
		this.errors = errors;
		this.status = reply?.status ?? 0;
		this.retryAfter = Number(reply?.headers.get("Retry-After")) || 0;
		this.requestId = reply?.headers.get("X-Request-ID") ?? "";
	}
}

/** @type {typeof T.createAuth} */
export function createAuth({ url, refreshEvery = 600 }) {
	const tabs = globalThis.document && new BroadcastChannel(`authapi ${url}`);
	const events = new EventTarget();
	/** @type {T.User?} */
	let user;
	let asking = null;
	let heard = ""; // another tab's user
	let asked = 0; // by any tab; 0: ask again
	let changes = 0; // older answers do not count

	/** @type {T.Call} */
	async function request(method, path, body, ends) {
		const before = changes;
		const send = () =>
			fetch(url + path, {
				method,
				body: JSON.stringify(body),
				headers: body && { "Content-Type": "application/json" },
				credentials: "include",
				signal: AbortSignal.timeout(30_000),
			}).catch(Response.error);
		// NOTE: a late renewal would undo a login
		const mode = method === "GET" || ends ? "shared" : "exclusive";
		const signal = AbortSignal.timeout(5000);
		const locked = tabs && navigator.locks?.request(tabs.name, { mode, signal }, send);
		const reply = await (locked?.catch(send) ?? send());
		let answer = await reply.json().catch(() => null);
		if (Number(answer?.code) !== reply.status) {
			answer = { message: "No answer." };
			answer.error = reply.status ? "unexpected_answer" : "network_error";
		}
		const ok = reply.ok && !answer.error;
		const over = ok ? ends : NO_SESSION.test(answer.error);
		const tells = over || (answer.user && /^\/(login|register|sessions|user)\b/.test(path));
		if (tells && (ends || before === changes)) learn(answer.user);
		else if (tells || (ok && method !== "GET")) await request("GET", "/user").catch(() => (asked = 0));
		if (ok) return answer;
		throw new AuthError(answer, reply);
	}

	function learn(found = null) {
		const text = JSON.stringify(found);
		if (text !== heard) tabs?.postMessage(text);
		heard = "";
		asked = Date.now();
		changes++;
		if (text === JSON.stringify(user)) return;
		user = found;
		events.dispatchEvent(new Event("change"));
	}

	const refresh = () =>
		(asking ??= request("GET", "/user")
			.catch((e) => NO_SESSION.test(e.error) || Promise.reject(e))
			.then(() => user)
			.finally(() => (asking = null)));

	if (tabs) {
		const askAfter = (age = 0) =>
			document.hidden || Math.abs(Date.now() - asked) < age || refresh().catch(() => {});
		setInterval(() => (user || !asked) && askAfter(refreshEvery * 1000), 60_000);
		addEventListener("visibilitychange", () => askAfter(10_000));
		tabs.onmessage = ({ data }) => {
			heard = data;
			if (data === JSON.stringify(user)) asked = Date.now();
			else asked = 0, changes++, refresh().catch(() => {}); // SECURITY: ask, do not believe
		};
	}

	/** @type {T.Field} */
	const call = (method, path, field = "user") => async (body) =>
		(await request(method, path, body))[field];

	return {
		get user() {
			return user;
		},
		onChange(listener) {
			const stop = new AbortController();
			events.addEventListener("change", () => listener(user), stop);
			return () => stop.abort();
		},
		refresh,
		request,
		register: call("POST", "/register"),
		login: call("POST", "/login"),
		logout: ({ everywhere } = {}) => request("POST", "/logout", { everywhere }, true),
		changePassword: call("PUT", "/user/password"),
		reauthenticate: call("POST", "/sessions/reauthenticate"),
		rename: call("PATCH", "/user"),
		deleteUser: (body) => request("DELETE", "/user", body, true),
		sessions: call("GET", "/sessions", "sessions"),
		endSession: (id) => request("DELETE", `/sessions/${encodeURIComponent(id)}`),
		activity: call("GET", "/user/activity", "activity"),
	};
}
