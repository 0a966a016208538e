-- What other ways to sign in need, second factors and roles. All of it in one migration, so that no later one writes every row of
-- these tables again.

-- A user who signs in without a password has no hash. SQLite drops a NOT NULL only with its column; no index and no trigger names it.
-- The hash is moved, not copied, so that no row grows and no page is split.
ALTER TABLE users ADD COLUMN optional_password_hash TEXT;
UPDATE users SET optional_password_hash = password_hash, password_hash = '';
ALTER TABLE users DROP COLUMN password_hash;
ALTER TABLE users RENAME COLUMN optional_password_hash TO password_hash;

-- Rises with every change of a user's credentials, of the password too: what was begun with the older ones ends. The
-- password_version stays apart, because a new second factor must not make every browser an unknown one.
ALTER TABLE users ADD COLUMN credentials_version INTEGER NOT NULL DEFAULT 1;

-- When the user proved to receive mail at the address. NULL: not yet.
ALTER TABLE users ADD COLUMN email_verified_at INTEGER;

-- Names in alphabetical order, with a space between two.
ALTER TABLE users ADD COLUMN roles TEXT NOT NULL DEFAULT '';

-- How the session's user signed in: names of RFC 8176 with a space between two.
ALTER TABLE sessions ADD COLUMN methods TEXT NOT NULL DEFAULT 'pwd';

-- When the second factor was given last. NULL: never in this session.
ALTER TABLE sessions ADD COLUMN second_factor_at INTEGER;

-- A word on what happened, such as a method's name. Never a secret or an address.
ALTER TABLE audit_log ADD COLUMN detail TEXT;
