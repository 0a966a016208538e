-- The ids that were given: each engine keeps them in its own way, SQLite in the table of AUTOINCREMENT.

-- name: newest_id()$
-- The highest id that was ever given.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'users'), 0);

-- name: forget_newest_id()!
DELETE FROM sqlite_sequence
 WHERE name = 'users';

-- name: remember_newest_id(id)!
INSERT INTO sqlite_sequence (name, seq)
VALUES ('users', :id);
