// Drives the generated TypeScript client from a registration to a logout, for test_generated_clients.py.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };
const auth = createClient<paths, "application/json">({ baseUrl: process.argv[2] });

function same<T>(found: T, expected: T): void {
  if (found !== expected) throw new Error(`found ${found}, not ${expected}`);
}

const password = "first programmer 1843";
const body = { username: "ada", email: "ada@example.com", password };
const registered = await auth.POST("/register", { body });
const created = registered.data;
const user: components["schemas"]["User"] | undefined =
  created && "user" in created ? created.user : undefined; // 202 has none
same(user?.username, "ada");

const again = await auth.POST("/register", { body });
switch (again.error?.error) {
  case "username_taken":
    same(again.error.code, "409");
    break;
  // @ts-expect-error: a registration does not fail so
  case "invalid_link":
  default:
    throw new Error("the name is taken");
}

const weak = await auth.POST("/register", { body: { ...body, password: "short" } });
same(weak.error?.error === "validation_failed" ? weak.error.errors[0].field : "", "password");

const wrong = await auth.POST("/login", { body: { usernameOrEmail: "ada", password: "no" } });
same(wrong.error?.error, "invalid_credentials");
// @ts-expect-error: the name has capitals
auth.POST("/login", { body: { username_or_email: "ada", password } }).catch(() => undefined);

const login = await auth.POST("/login", { body: { usernameOrEmail: "ada", password } });
const token = login.response.headers.getSetCookie().find((each) => each.startsWith("jwt="));
const headers = { Authorization: `Bearer ${token?.slice(4).split(";")[0]}` };

const sessions = await auth.GET("/sessions", { headers });
same(sessions.data?.sessions.length, 2);
const old = sessions.data?.sessions.find((each) => !each.current);
const params = { path: { session_id: old?.id ?? "" } };
same((await auth.DELETE("/sessions/{session_id}", { params, headers })).data?.code, 200);
const page = await auth.GET("/user/activity", { params: { query: { limit: 1 } }, headers });
same(page.data?.activity[0].event, "session_revoked");
same((await auth.POST("/logout", { headers })).data?.message, "Logged Out.");
same((await auth.GET("/user", { headers })).error?.error, "invalid_token");
console.log("driven");
