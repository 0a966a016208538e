-- Transactions and the write-ahead log, which are SQLite's own.

-- name: begin_immediate()!
BEGIN IMMEDIATE;

-- name: begin_exclusive()!
-- Other programs cannot read meanwhile where the connection's locking mode is EXCLUSIVE, or there is no log.
BEGIN EXCLUSIVE;

-- name: begin_reading()!
-- The snapshot is taken by the first statement that follows.
BEGIN;

-- name: use_write_ahead_log()$
PRAGMA journal_mode = WAL;

-- name: keep_no_log()$
-- One file is the whole database from now on. A service's start makes a log again.
PRAGMA journal_mode = DELETE;

-- name: empty_log()^
-- Writes the log into the database file and empties it.
PRAGMA wal_checkpoint(TRUNCATE);

-- name: orphan()^
-- A row that refers to none, as other programs leave it that do not check references: its table, its rowid, and the table it refers to.
PRAGMA foreign_key_check;

-- name: faults()
-- What is wrong with the pages and the indexes, ten faults at most.
SELECT integrity_check
  FROM pragma_integrity_check(10)
 WHERE integrity_check <> 'ok';

-- name: quick_faults()
-- The same without a comparison of indexes and rows.
SELECT quick_check
  FROM pragma_quick_check(10)
 WHERE quick_check <> 'ok';

-- name: page_count()$
PRAGMA page_count;

-- name: page_size()$
PRAGMA page_size;

-- name: lock_users()$
-- Does nothing: no other change runs.
SELECT 1;
