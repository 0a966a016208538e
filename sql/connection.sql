-- What every new connection is told before its first statement.
PRAGMA busy_timeout = 5000;
PRAGMA foreign_keys = ON;
-- With NORMAL a power cut can undo a commit that was acknowledged: a logout, a revocation.
PRAGMA synchronous = FULL;
PRAGMA trusted_schema = OFF;
