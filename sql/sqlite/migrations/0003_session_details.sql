-- What a user sees of a session, and what its renewal needs. The ids follow the order of the logins; the hash of the secret
-- id is what a session is called in public.
ALTER TABLE sessions RENAME TO earlier_sessions;

CREATE TABLE sessions (
    id               INTEGER PRIMARY KEY,
    id_hash          TEXT    NOT NULL UNIQUE CHECK (length(id_hash) = 64),
    user_id          INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at       INTEGER NOT NULL,
    authenticated_at INTEGER NOT NULL,
    last_seen_at     INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    ip               TEXT    NOT NULL,
    user_agent       TEXT    NOT NULL
) STRICT;

INSERT INTO sessions
       (id_hash, user_id, created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent)
SELECT lower(hex(id_hash)), user_id, created_at, created_at, created_at, expires_at, '', ''
  FROM earlier_sessions
 ORDER BY created_at;

DROP TABLE earlier_sessions;

CREATE INDEX sessions_user_id ON sessions (user_id);

CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- Counts the passwords that a user has had: a rehash is no other password.
ALTER TABLE users ADD COLUMN password_version INTEGER NOT NULL DEFAULT 1;
