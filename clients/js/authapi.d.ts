// The types of authapi.js. api.d.ts holds those of the service: openapi-typescript makes it from docs/openapi.json.
import type { components, paths } from "./api.js";

type Schemas = components["schemas"];
type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
type Operation<M extends Method, P extends keyof paths> = paths[P][Lowercase<M>];
type Json<T> = T extends { content: { "application/json": infer Body } } ? Body : never;

/** The paths that a method is for. */
export type Path<M extends Method> = {
  [P in keyof paths]: Operation<M, P> extends { responses: unknown } ? P : never;
}[keyof paths];

/** The body of a request. */
export type Body<M extends Method, P extends Path<M>> =
  Operation<M, P> extends { requestBody?: infer Request } ? Json<NonNullable<Request>> : never;

/** The body of an answer that is not a failure. */
export type Answer<M extends Method, P extends Path<M>> =
  Operation<M, P> extends { responses: infer Answers } ? Json<Answers[keyof Answers & (200 | 201 | 202)]> : never;

/** The arguments after the path: a body if there may be one, which must be given if it is required. */
type Given<M extends Method, P extends Path<M>> =
  [Body<M, P>] extends [never] ? []
  : Operation<M, P> extends { requestBody: object } ? [body: Body<M, P>]
  : [body?: Body<M, P>];

export type User = Schemas["User"];
export type Session = Schemas["Session"];
export type Activity = Answer<"GET", "/user/activity">["activity"][number];
export type Fault = Schemas["Fault"];

/** The names of the service's failures, and of the client's own. */
export type ErrorName =
  | { [S in keyof Schemas]: Schemas[S] extends { code: string; error: infer Name } ? Name : never }[keyof Schemas]
  | "network_error" // no answer: offline, refused by the browser, or none within 30 seconds
  | "unexpected_answer"; // not the service's: a proxy's page, say

/** What a failure's answer says. */
export interface Failure {
  error: ErrorName;
  message: string;
  errors?: Fault[];
}

/** A call failed. */
export declare class AuthError extends Error {
  constructor(failure: Failure, response?: Response | null);
  /** The name of the failure. */
  error: ErrorName;
  /** The faults of the body's fields; empty if the failure is another. */
  errors: Fault[];
  /** The status of the answer; 0 without one. */
  status: number;
  /** The seconds until another try makes sense; 0 if the service does not say. */
  retryAfter: number;
  /** The id of the request, which is in the service's log; empty without one. */
  requestId: string;
}

export interface AuthOptions {
  /** Where the service is, without a slash at the end: `/auth`, or `https://auth.example.com`. */
  url: string;
  /** A visible page asks for the user when nobody has for so many seconds. Default: 600. Infinity: never. */
  refreshEvery?: number;
}

/** The methods throw AuthError. Bodies are those that the contract has. */
export interface Auth {
  /** The user of the session, null without one, undefined until known. The same object until something changes. */
  readonly user: User | null | undefined;
  /** Call a function with the user after each change, also one in another tab. Returns what stops it. */
  onChange(listener: (user: User | null) => void): () => void;
  /** Ask the service for the user, which renews the session when it is due. */
  refresh(): Promise<User | null>;
  /** Call a route. `user` follows from its answer. */
  request<M extends Method, P extends Path<M>>(method: M, path: P | `${P}?${string}`, ...body: Given<M, P>): Promise<Answer<M, P>>;
  /** Returns null if a mail must complete the registration. */
  register(body: Body<"POST", "/register">): Promise<User | null>;
  login(body: Body<"POST", "/login">): Promise<User>;
  logout(body?: { everywhere?: boolean }): Promise<unknown>;
  changePassword(body: Body<"PUT", "/user/password">): Promise<User>;
  /** Give the password again, for what needs a fresh session. */
  reauthenticate(body: Body<"POST", "/sessions/reauthenticate">): Promise<User>;
  rename(body: Body<"PATCH", "/user">): Promise<User>;
  /** Needs no body in a fresh session. */
  deleteUser(body?: Body<"DELETE", "/user">): Promise<unknown>;
  sessions(): Promise<Session[]>;
  endSession(id: string): Promise<unknown>;
  /** What happened to the account, newest first, at most 50 entries. */
  activity(): Promise<Activity[]>;
}

/** Create a client. A server that renders pages creates one for each request: it holds one user. */
export declare function createAuth(options: AuthOptions): Auth;

// What follows is for authapi.js itself.

export type Call = (method: string, path: string, body?: object, ends?: boolean) => Promise<any>;
export type Field = (method: string, path: string, field?: string) => (body?: object) => Promise<any>;
