-- Links and codes that are sent by mail, each good for one use. The secrets are derived from a root key when they are sent, and only
-- their hashes are stored. A row without a link_hash waits for its mail; if the address turns out to be nobody's, it stays so.
CREATE TABLE one_time_tokens (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    purpose    TEXT    NOT NULL,
    user_id    INTEGER REFERENCES users (id) ON DELETE CASCADE,
    version    INTEGER,                      -- users.credentials_version when it was sent. NULL: a change of it does not end the token
    data       TEXT    NOT NULL,
    kid        TEXT    NOT NULL,             -- of the root key
    nonce      TEXT    NOT NULL,
    link_hash  TEXT,
    code_hash  TEXT,
    binding    TEXT,                         -- hash of a secret in the cookie of the browser that asked
    tries      INTEGER NOT NULL DEFAULT 0,   -- of codes
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX one_time_tokens_link_hash ON one_time_tokens (link_hash);

CREATE INDEX one_time_tokens_user_id ON one_time_tokens (user_id, purpose);

CREATE INDEX one_time_tokens_expires_at ON one_time_tokens (expires_at);
