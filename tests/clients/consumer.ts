// What a strict compiler lets an application say with authapi.js, for test_javascript_client.py. Nobody runs it.
import { createAuth, AuthError, type Activity, type ErrorName, type Session, type User } from "./authapi.js";

const auth = createAuth({ url: "https://auth.example.com", refreshEvery: 300 });

const known: User | null | undefined = auth.user;
const stop: () => void = auth.onChange((user) => user?.username.toUpperCase());
const ada: User = await auth.login({ usernameOrEmail: "ada", password: "first programmer 1843" });
const registered: User | null = await auth.register({ username: "ada", email: "ada@example.com", password: "" });
const sessions: Session[] = await auth.sessions();
const activity: Activity[] = await auth.activity();
await auth.logout({ everywhere: true });
document.body.addEventListener("click", () => auth.logout());

const reset = await auth.request("POST", "/password/reset/request", { usernameOrEmail: "ada" });
reset.message.length;
const page = await auth.request("GET", "/user/activity?limit=1");
page.activity[0].event.length;
await auth.request("POST", "/login/mail/verify", { code: "123456" });
await auth.request("DELETE", "/user");

// @ts-expect-error: a field is missing, and another is unknown
await auth.login({ username: "ada", password: "first programmer 1843" });
// @ts-expect-error: a password is a text
await auth.reauthenticate({ password: 1843 });
// @ts-expect-error: users have no such field
ada.name;
// @ts-expect-error: the service says who the user is
auth.user = null;
// @ts-expect-error: it needs a body
await auth.request("POST", "/password/reset/request");
// @ts-expect-error: the body has another field
await auth.request("POST", "/password/reset", { token: "", password: "" });
// @ts-expect-error: there is no such path
await auth.request("POST", "/password/forgotten", { usernameOrEmail: "ada" });
// @ts-expect-error: it is not for GET
await auth.request("GET", "/login");

function explain(error: unknown): string {
  if (!(error instanceof AuthError)) throw error;
  switch (error.error) {
    case "validation_failed":
      return error.errors.map((fault) => `${fault.field}: ${fault.message}`).join();
    case "too_many_requests":
      return `${error.retryAfter.toFixed()} s, ${error.requestId.length}`;
    case "network_error":
    case "unexpected_answer":
      return error.message;
    // @ts-expect-error: the name is misspelt
    case "invalid_credential":
    default:
      return error.error satisfies ErrorName;
  }
}
explain(known ?? registered ?? sessions ?? activity ?? stop);
