-- Settings of every new connection.
-- Milliseconds that SQLite waits for another program's lock. A change tries again until its own deadline.
PRAGMA busy_timeout = 50;
PRAGMA foreign_keys = ON;
-- SECURITY: with NORMAL, a power cut can undo a commit that was acknowledged, such as a logout.
PRAGMA synchronous = FULL;
PRAGMA trusted_schema = OFF;
-- SECURITY: what is deleted is overwritten, as many systems have it by default. Otherwise the file still holds a deleted user.
PRAGMA secure_delete = ON;
-- KiB of pages in memory for each connection, which is one for each thread. The system's cache is as fast.
PRAGMA cache_size = -512;
-- Bytes to which SQLite cuts the log after a long read, during which the log grows.
PRAGMA journal_size_limit = 8388608;
-- NOTE: the first read opens the log, which SQLite finds by the database's name.
SELECT count(*) FROM sqlite_schema;
