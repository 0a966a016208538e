-- Transactions and the write-ahead log, which are SQLite's own.

-- name: begin_immediate()!
BEGIN IMMEDIATE;

-- name: use_write_ahead_log()$
PRAGMA journal_mode = WAL;

-- name: empty_log()^
-- Writes the log into the database file and empties it.
PRAGMA wal_checkpoint(TRUNCATE);

-- name: orphan()^
-- A row that refers to none, as other programs leave it that do not check references: its table, its rowid, and the table it refers to.
PRAGMA foreign_key_check;
