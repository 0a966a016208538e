// Drives authapi.js in Node from a registration to the end of the account, for test_javascript_client.py.
import assert from "node:assert/strict";
import { AuthError, createAuth } from "./authapi.js";

const url = process.argv[2];
const cookies = new Map(); // Node's fetch keeps none
const send = globalThis.fetch;
globalThis.fetch = async (target, init) => {
  const cookie = [...cookies].map((pair) => pair.join("=")).join("; ");
  const response = await send(target, { ...init, headers: { ...init.headers, cookie } });
  for (const line of response.headers.getSetCookie()) {
    const [, name, value] = /^([^=]+)="?([^;"]*)/.exec(line);
    value ? cookies.set(name, value) : cookies.delete(name);
  }
  return response;
};
const failure = async (promise) => {
  const error = await promise.then(assert.fail, (reason) => reason);
  assert(error instanceof AuthError && error instanceof Error, error);
  return error;
};

const auth = createAuth({ url });
const heard = [];
const stop = auth.onChange((user) => heard.push(user?.username ?? null));
assert.equal(auth.user, undefined);
assert.equal(await auth.refresh(), null);

const password = "first programmer 1843";
const ada = { username: "ada", email: "ada@example.com", password };
const weak = await failure(auth.register({ ...ada, password: "short" }));
assert.equal(`${weak.name}: ${weak.error} ${weak.status}`, "AuthError: validation_failed 422");
assert.deepEqual(weak.errors.map(({ field }) => field), ["password"]);
assert.match(weak.requestId, /^\w+$/);

assert.equal((await auth.register(ada)).username, "ada");
const snapshot = auth.user;
assert.equal(await auth.refresh(), snapshot);
assert.equal(auth.user, snapshot);
const wrong = await failure(auth.login({ usernameOrEmail: "ada", password: "wrong" }));
assert.equal(wrong.error, "invalid_credentials");
assert.equal(auth.user, snapshot); // a wrong password ends no session

assert.equal((await auth.reauthenticate({ password })).id, snapshot.id);
assert.equal((await auth.rename({ username: "lovelace" })).username, "lovelace");
const changed = { current_password: password, new_password: "analytical engine 1843" };
await auth.changePassword(changed);
assert.equal((await failure(auth.changePassword(changed))).error, "wrong_password");
const [session] = await auth.sessions();
assert(session.current);
assert.equal((await auth.activity())[0].event, "login_failed");
const { activity } = await auth.request("GET", "/user/activity?limit=1");
assert.equal(activity.length, 1);

assert.equal((await failure(auth.endSession(".."))).status, 405); // no path but a session's is reached
assert.equal((await failure(auth.endSession("../user"))).error, "not_found");
await auth.endSession(session.id);
assert.equal(auth.user, null);
assert.equal((await failure(auth.sessions())).error, "not_authenticated");

await auth.login({ usernameOrEmail: "lovelace", password: changed.new_password });
await auth.logout();
assert.equal(auth.user, null);
await auth.login({ usernameOrEmail: "lovelace", password: changed.new_password });
await auth.logout({ everywhere: true });
await auth.login({ usernameOrEmail: "lovelace", password: changed.new_password });
await auth.deleteUser();
assert.equal(auth.user, null);

const expected = [null, "ada", "lovelace", null, "lovelace", null, "lovelace", null, "lovelace", null];
assert.deepEqual(heard, expected);
stop();
console.log("driven");
