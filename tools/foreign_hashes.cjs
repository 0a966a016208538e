// Make the password hashes of libraries for Node: see tools/foreign_hashes.py.
const PASSWORDS = [
  "correct horse",
  "p\u00e4ssw\u00f6rd",
  "Ame\u0301lie 123",
  "\ufb01anc\u00e9 \u2460\uff21",
  "long ".repeat(20) + "\u00e9",
];

const fs = require("node:fs");
const path = require("node:path");
const modules = process.env.NODE_PATH;

function version(name) {
  return JSON.parse(fs.readFileSync(path.join(modules, name, "package.json"))).version;
}

function show(from, name, by, password, hash) {
  console.log(JSON.stringify({ from, by: `${by} ${version(name)}`, password, hash }));
}

function load(name, file) {
  return import(path.join(modules, name, file));
}

(async () => {
  const better = await load("better-auth", "dist/crypto/index.mjs");
  const lucia0 = await load("lucia0", "utils/crypto.js");
  const lucia2 = await load("lucia2", "dist/utils/index.js");
  const lucia3 = await load("lucia3", "dist/index.js");
  const bcrypt = require(path.join(modules, "bcrypt"));
  const bcryptjs = require(path.join(modules, "bcryptjs"));
  for (const password of PASSWORDS) {
    show("better-auth", "better-auth", "better-auth", password, await better.hashPassword(password));
    show("lucia", "lucia0", "lucia", password, await lucia0.hashScrypt(password));
    show("lucia", "lucia2", "lucia", password, await lucia2.generateLuciaPasswordHash(password));
    show("lucia", "lucia3", "lucia", password, await new lucia3.Scrypt().hash(password));
    show("auth0", "bcrypt", "bcrypt (npm)", password, await bcrypt.hash(password, 4));
    show("supabase", "bcryptjs", "bcryptjs", password, await bcryptjs.hash(password, 4));
  }
})();
