-- What a database holds.

-- name: users()$
SELECT count(*)
  FROM users;

-- name: sessions()$
SELECT count(*)
  FROM sessions;
