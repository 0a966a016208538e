// A middleware for Express that asks authapi whose request it is. Run it: node verify.mjs
import { createServer } from "node:http";

const verify = `${process.env.AUTHAPI_URL ?? "http://127.0.0.1:3001"}/verify`;

export async function requireUser(req, res, next) {
  const sent = ["cookie", "authorization"].filter((name) => req.headers[name]);
  const headers = Object.fromEntries(sent.map((name) => [name, req.headers[name]]));
  let status, id;
  try {
    const signal = AbortSignal.timeout(1000);
    const answer = await fetch(verify, { headers, redirect: "manual", signal });
    await answer.arrayBuffer(); // read to its end, the connection can be used again
    status = answer.status;
    id = answer.headers.get("x-auth-user-id");
  } catch {
    status = 503;
  }
  if (status !== 200 || !id) return res.writeHead(status === 401 ? 401 : 503).end();
  req.userId = id;
  next();
}

// In Express: app.use(requireUser), and then req.userId
createServer((req, res) =>
  requireUser(req, res, () => {
    res.setHeader("Content-Type", "application/json");
    res.end(JSON.stringify({ user: req.userId }));
  }),
).listen(8000, "127.0.0.1");
