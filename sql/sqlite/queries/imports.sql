-- Many keys and many rows at once, as JSON, whose functions each engine has its own. And the ids after those that were
-- given, which AUTOINCREMENT needs no help with.

-- name: continue_ids(newest)$
-- Does nothing: AUTOINCREMENT goes on after the highest id.
SELECT :newest;

-- name: users_by_email(keys)
SELECT email_key, id
  FROM users
 WHERE email_key IN (SELECT value FROM json_each(:keys));

-- name: taken_names(keys)
-- Those keys that are a user's name, or what a user's name looks like.
SELECT username_key
  FROM users
 WHERE username_key IN (SELECT value FROM json_each(:keys))
 UNION
SELECT lookalike
  FROM username_lookalikes
 WHERE lookalike IN (SELECT value FROM json_each(:keys));

-- name: insert_rows(rows)
INSERT INTO users
       (id, username, username_key, email, email_key, password_hash, password_version, credentials_version, email_verified_at, roles,
        disabled_at, created_at, updated_at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'), json_extract(value, '$[7]'),
       json_extract(value, '$[8]'), json_extract(value, '$[9]'), json_extract(value, '$[10]'), json_extract(value, '$[11]'),
       json_extract(value, '$[12]')
  FROM json_each(:rows)
 ORDER BY key
RETURNING id, email_key;
