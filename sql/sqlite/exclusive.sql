-- For a connection that no other program's may be beside. SQLite takes the lock when it opens the write-ahead log, and is refused where
-- another connection to the file is open.
PRAGMA locking_mode = EXCLUSIVE;
