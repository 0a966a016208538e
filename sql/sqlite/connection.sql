-- What every new connection is told before its first statement.
-- Milliseconds that SQLite itself waits; a write tries again until its own deadline.
PRAGMA busy_timeout = 50;
PRAGMA foreign_keys = ON;
-- With NORMAL a power cut can undo a commit that was acknowledged: a logout, a revocation.
PRAGMA synchronous = FULL;
PRAGMA trusted_schema = OFF;
-- KiB of pages that a connection keeps, and each thread has one. The system's own cache serves the
-- rest as fast.
PRAGMA cache_size = -512;
-- Bytes of the log that are kept after a long read, which lets it grow, has ended.
PRAGMA journal_size_limit = 8388608;
-- A first read opens the log, which is found by the database's name.
SELECT count(*) FROM sqlite_schema;
