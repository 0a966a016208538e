// The options of better-auth; DATABASE (a file, or a URL of PostgreSQL), PORT, SECRET and ARGON2_… come from the environment.
import { hash, verify } from "@node-rs/argon2";
import { betterAuth } from "better-auth";
import Database from "better-sqlite3";
import pg from "pg";

const { DATABASE, PORT, SECRET } = process.env;
const ARGON2ID = 2; // a const enum of the package, which JavaScript cannot import
const cost = {
  algorithm: ARGON2ID,
  memoryCost: Number(process.env.ARGON2_MEMORY_KIB),
  timeCost: Number(process.env.ARGON2_TIME_COST),
  parallelism: Number(process.env.ARGON2_LANES),
};

function sqlite() {
  const database = new Database(DATABASE);
  database.pragma("journal_mode = WAL"); // as better-sqlite3's README says
  return database;
}

const onServer = DATABASE.startsWith("postgresql:");
const database = onServer ? new pg.Pool({ connectionString: DATABASE }) : sqlite(); // 10 connections

export const auth = betterAuth({
  baseURL: `http://127.0.0.1:${PORT}`,
  secret: SECRET,
  database,
  emailAndPassword: {
    enabled: true,
    password: {
      hash: (password) => hash(password, cost),
      verify: ({ hash, password }) => verify(hash, password),
    },
  },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
});
