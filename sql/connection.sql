-- What every new connection is told before its first statement.
-- Milliseconds that SQLite itself waits; a write tries again until its own deadline.
PRAGMA busy_timeout = 50;
PRAGMA foreign_keys = ON;
-- With NORMAL a power cut can undo a commit that was acknowledged: a logout, a revocation.
PRAGMA synchronous = FULL;
PRAGMA trusted_schema = OFF;
