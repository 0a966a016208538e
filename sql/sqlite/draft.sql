-- For a connection to a copy that nobody else sees yet. What fails removes the copy, and it is written to the disk before it appears.
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
