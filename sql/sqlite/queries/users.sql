-- The highest id that was ever given: SQLite keeps it in the table of AUTOINCREMENT, where another engine has a sequence. And the lock on
-- a name, which one writer does not need.

-- name: newest_id()$
-- The highest id that was ever given.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'users'), 0);

-- name: forget_newest_id()!
DELETE FROM sqlite_sequence
 WHERE name = 'users';

-- name: remember_newest_id(id)!
INSERT INTO sqlite_sequence (name, seq)
VALUES ('users', :id);

-- name: hold_name(key)$
-- Does nothing: no other change runs.
SELECT :key;
