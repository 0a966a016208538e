-- Accounts. Names and addresses are kept as typed; the *_key columns hold their caseless forms.
-- AUTOINCREMENT: the id of a deleted user is never anyone else's.
CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    username      TEXT    NOT NULL,
    username_key  TEXT    NOT NULL,
    email         TEXT    NOT NULL,
    email_key     TEXT    NOT NULL,
    password_hash TEXT    NOT NULL,
    disabled_at   INTEGER,
    created_at    INTEGER NOT NULL DEFAULT (unixepoch()),
    updated_at    INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;

CREATE UNIQUE INDEX users_username_key ON users (username_key);

CREATE UNIQUE INDEX users_email_key ON users (email_key);

-- A rehash at login is no change that the user made, so password_hash does not count.
CREATE TRIGGER users_updated_at
AFTER UPDATE OF username, username_key, email, email_key, disabled_at ON users
BEGIN
    UPDATE users SET updated_at = unixepoch() WHERE id = NEW.id;
END;
