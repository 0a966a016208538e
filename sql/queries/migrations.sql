-- The ledger of the migrations that a database has seen.

-- name: has_ledger()$
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations');

-- name: is_empty()$
SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema);

-- name: create_ledger()!
CREATE TABLE migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    checksum   TEXT    NOT NULL,
    applied_at INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;

-- name: applied()
SELECT version, name, checksum
  FROM migrations
 ORDER BY version;

-- name: record(version, name, checksum)!
INSERT INTO migrations (version, name, checksum)
VALUES (:version, :name, :checksum);

-- name: has_users()$
SELECT EXISTS (SELECT 1 FROM users);

-- name: copy_to(path)!
-- The file must be empty.
VACUUM INTO :path;
