// A browser's client of authapi: see docs/clients/javascript.md.
/** @import * as T from "./authapi.d.ts" */

const NO_SESSION = /^(not_authenticated|invalid_token)$/;

export class AuthError extends Error {
  name = "AuthError";
  /** @param {T.Failure} failure @param {Response?} [response] */
  constructor({ error, message, errors = [] }, response) {
    super(message);
    this.error = error;
    this.errors = errors;
    this.status = response?.status ?? 0;
    this.retryAfter = Number(response?.headers.get("Retry-After")) || 0;
    this.requestId = response?.headers.get("X-Request-ID") ?? "";
  }
}

/** @type {typeof T.createAuth} */
export function createAuth({ url, refreshEvery = 600 }) {
  const tabs = globalThis.document && new BroadcastChannel(`authapi ${url}`);
  const events = new EventTarget();
  /** @type {T.User?} */
  let user;
  /** @type {any} */
  let asking;
  let heard = ""; // the user, as another tab knows it
  let asked = 0; // when any tab asked last
  let changes = 0; // what was asked before a change is asked again

  /** @type {T.Call} */
  async function request(method, path, body, ends = false) {
    const before = changes;
    const response = await fetch(url + path, {
      method,
      body: JSON.stringify(body),
      headers: body && { "Content-Type": "application/json" },
      credentials: "include",
      signal: AbortSignal.timeout(30_000),
    }).catch(() => null);
    let answer = await response?.json().catch(() => null);
    if (Number(answer?.code) !== response?.status) {
      const error = response ? "unexpected_answer" : "network_error";
      answer = { error, message: "No answer from the service." };
    }
    const ok = response?.ok && !answer.error;
    const over = ok ? ends : NO_SESSION.test(answer.error);
    const tells = over || answer.user;
    if (tells && before === changes) learn(answer.user ?? null);
    else if (tells || (ok && method !== "GET")) await request("GET", "/user").catch(() => {});
    if (ok) return answer;
    throw new AuthError(answer, response);
  }

  /** @param {T.User?} found */
  function learn(found) {
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
      .catch((error) => NO_SESSION.test(error.error) || Promise.reject(error))
      .then(() => user)
      .finally(() => (asking = null)));

  if (tabs) {
    const refreshAfter = (age = 0) =>
      document.hidden || Math.abs(Date.now() - asked) < age || refresh().catch(() => {});
    setInterval(() => user === null || refreshAfter(refreshEvery * 1000), 60_000);
    document.addEventListener("visibilitychange", () => refreshAfter(10_000));
    tabs.onmessage = ({ data }) => {
      heard = data;
      if (data === JSON.stringify(user)) asked = Date.now();
      else changes++, refresh().catch(() => {}); // SECURITY: ask, do not believe
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
      const hear = () => listener(user);
      events.addEventListener("change", hear);
      return () => events.removeEventListener("change", hear);
    },
    refresh,
    request,
    register: call("POST", "/register"),
    login: call("POST", "/login"),
    logout: ({ everywhere = false } = {}) => request("POST", "/logout", { everywhere }, true),
    changePassword: call("PUT", "/user/password"),
    reauthenticate: call("POST", "/sessions/reauthenticate"),
    rename: call("PATCH", "/user"),
    deleteUser: (body) => request("DELETE", "/user", body, true),
    sessions: call("GET", "/sessions", "sessions"),
    endSession: (id) => request("DELETE", `/sessions/${encodeURIComponent(id)}`),
    activity: call("GET", "/user/activity", "activity"),
  };
}
