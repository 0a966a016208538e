-- The locks on a user's row and on a name, and the highest id that was ever given, which is the sequence's.

-- name: lock(id)!
-- No other change of this user begins until the transaction ends. It is a statement of its own, because each statement sees what was
-- committed before it began. NO KEY: rows that name the user may be added.
SELECT id
  FROM users
 WHERE id = :id
   FOR NO KEY UPDATE;

-- name: newest_id()$
SELECT coalesce(pg_sequence_last_value('users_id_seq'), 0);

-- name: forget_newest_id()!
-- The sequence goes back to its start.
SELECT setval('users_id_seq', 1, false);

-- name: remember_newest_id(id)!
SELECT setval('users_id_seq', :id);

-- name: hold_name(key)$
-- No other change takes a name with this key, or one that looks like it, until the transaction ends. No constraint covers both tables.
SELECT pg_advisory_xact_lock(1635087471, hashtext(:key)) IS NULL;
