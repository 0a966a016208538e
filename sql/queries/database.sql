-- Transactions and the journal: what the data layer itself needs.

-- name: begin_immediate()!
BEGIN IMMEDIATE;

-- name: use_write_ahead_log()$
PRAGMA journal_mode = WAL;
