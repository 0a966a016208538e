-- The ledger as SQLite has it: its schema table, and STRICT.

-- name: has_ledger()$
-- A table that has no checksums is another program's.
SELECT EXISTS (SELECT 1 FROM pragma_table_info('migrations') WHERE name = 'checksum');

-- name: is_empty()$
SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema);

-- name: create_ledger()!
CREATE TABLE migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    checksum   TEXT    NOT NULL,
    applied_at INTEGER NOT NULL DEFAULT (unixepoch()),
    needs      INTEGER
) STRICT;

-- name: lacks_needs()$
-- A table that has no checksums is another program's.
SELECT count(*) FILTER (WHERE name = 'checksum') > count(*) FILTER (WHERE name = 'needs')
  FROM pragma_table_info('migrations');

-- name: add_needs()!
-- Release 0.1 made the table without the column, and do not mind it.
ALTER TABLE migrations ADD COLUMN needs INTEGER;
