// Serves better-auth by its Node handler, in as many processes as WORKERS says.
import cluster from "node:cluster";
import { createServer } from "node:http";

const { PORT, WORKERS } = process.env;

if (cluster.isPrimary && Number(WORKERS) > 1) {
  for (let worker = 0; worker < Number(WORKERS); worker += 1) {
    cluster.fork();
  }
  process.on("SIGTERM", () => cluster.disconnect(() => process.exit(0)));
} else {
  const { toNodeHandler } = await import("better-auth/node");
  const { auth } = await import("./auth.mjs");
  createServer(toNodeHandler(auth)).listen(Number(PORT), "127.0.0.1");
  process.on("SIGTERM", () => process.exit(0));
}
