-- Many keys and many rows at once, as JSON, whose functions each engine has its own; and the sequence of ids.

-- name: continue_ids(newest)$
SELECT setval('users_id_seq', :newest);

-- name: users_by_email(keys)
SELECT email_key, id
  FROM users
 WHERE email_key IN (SELECT json_array_elements_text(CAST(:keys AS json)));

-- name: taken_names(keys)
-- Those keys that are a user's name, or what a user's name looks like.
SELECT username_key
  FROM users
 WHERE username_key IN (SELECT json_array_elements_text(CAST(:keys AS json)))
 UNION
SELECT lookalike
  FROM username_lookalikes
 WHERE lookalike IN (SELECT json_array_elements_text(CAST(:keys AS json)));

-- name: insert_rows(rows)
INSERT INTO users
       (id, username, username_key, email, email_key, password_hash, password_version, credentials_version, email_verified_at, roles,
        disabled_at, created_at, updated_at)
OVERRIDING SYSTEM VALUE
SELECT coalesce(CAST(value ->> 0 AS bigint), nextval('users_id_seq')), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
       CAST(value ->> 6 AS bigint), CAST(value ->> 7 AS bigint), CAST(value ->> 8 AS bigint), value ->> 9,
       CAST(value ->> 10 AS bigint), CAST(value ->> 11 AS bigint), CAST(value ->> 12 AS bigint)
  FROM json_array_elements(CAST(:rows AS json)) WITH ORDINALITY AS given (value, place)
 ORDER BY place
RETURNING id, email_key;
