// Makes the tables: what `npx @better-auth/cli migrate` does.
import { getMigrations } from "better-auth/db/migration";
import { auth } from "./auth.mjs";

const { runMigrations } = await getMigrations(auth.options);
await runMigrations();
process.exit(0); // a pool would keep it alive
