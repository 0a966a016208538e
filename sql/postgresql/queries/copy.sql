-- How `authapi db copy` fills the tables: `rows` is a JSON array of a page's rows, whose columns are those of the common statements. Only a
-- PostgreSQL database is copied to.

-- name: has_rows()$
SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM audit_log);

-- name: insert_users(rows)!
INSERT INTO users
       (id, username_key, email, email_key, password_hash, password_version, credentials_version, email_verified_at, roles,
        disabled_at, created_at, updated_at, username)
OVERRIDING SYSTEM VALUE
SELECT CAST(value ->> 0 AS bigint), value ->> 1, value ->> 2, value ->> 3, value ->> 4, CAST(value ->> 5 AS bigint),
       CAST(value ->> 6 AS bigint), CAST(value ->> 7 AS bigint), value ->> 8, CAST(value ->> 9 AS bigint),
       CAST(value ->> 10 AS bigint), CAST(value ->> 11 AS bigint), value ->> 12
  FROM json_array_elements(CAST(:rows AS json));

-- name: insert_username_lookalikes(rows)!
INSERT INTO username_lookalikes (user_id, lookalike)
SELECT CAST(value ->> 0 AS bigint), value ->> 1
  FROM json_array_elements(CAST(:rows AS json));

-- name: insert_sessions(rows)!
INSERT INTO sessions
       (id, id_hash, user_id, created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent, methods, second_factor_at)
OVERRIDING SYSTEM VALUE
SELECT CAST(value ->> 0 AS bigint), value ->> 1, CAST(value ->> 2 AS bigint), CAST(value ->> 3 AS bigint),
       CAST(value ->> 4 AS bigint), CAST(value ->> 5 AS bigint), CAST(value ->> 6 AS bigint), value ->> 7, value ->> 8,
       value ->> 9, CAST(value ->> 10 AS bigint)
  FROM json_array_elements(CAST(:rows AS json));

-- name: insert_replaced_sessions(rows)!
INSERT INTO replaced_sessions (replaced_at, id_hash, replaced_by)
SELECT CAST(value ->> 0 AS bigint), value ->> 1, value ->> 2
  FROM json_array_elements(CAST(:rows AS json));

-- name: insert_audit_log(rows)!
INSERT INTO audit_log (id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id)
OVERRIDING SYSTEM VALUE
SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint), value ->> 2, value ->> 3, CAST(value ->> 4 AS bigint),
       value ->> 5, value ->> 6, value ->> 7, value ->> 8
  FROM json_array_elements(CAST(:rows AS json));

-- name: forget_root_keys()!
-- The row that opening the empty database made.
DELETE FROM root_keys;

-- name: insert_root_keys(rows)!
INSERT INTO root_keys (first_used_at, kid)
SELECT CAST(value ->> 0 AS bigint), value ->> 1
  FROM json_array_elements(CAST(:rows AS json));

-- name: insert_outbox(rows)!
INSERT INTO outbox
       (id, channel, kind, user_id, address, data, language, created_at, expires_at, due_at, claims, failures, error, died_at)
OVERRIDING SYSTEM VALUE
SELECT CAST(value ->> 0 AS bigint), value ->> 1, value ->> 2, CAST(value ->> 3 AS bigint), value ->> 4, value ->> 5, value ->> 6,
       CAST(value ->> 7 AS bigint), CAST(value ->> 8 AS bigint), CAST(value ->> 9 AS bigint), CAST(value ->> 10 AS bigint),
       CAST(value ->> 11 AS bigint), value ->> 12, CAST(value ->> 13 AS bigint)
  FROM json_array_elements(CAST(:rows AS json));

-- name: insert_one_time_tokens(rows)!
INSERT INTO one_time_tokens
       (id, purpose, user_id, version, data, kid, nonce, link_hash, code_hash, binding, tries, created_at, expires_at)
OVERRIDING SYSTEM VALUE
SELECT CAST(value ->> 0 AS bigint), value ->> 1, CAST(value ->> 2 AS bigint), CAST(value ->> 3 AS bigint), value ->> 4, value ->> 5,
       value ->> 6, value ->> 7, value ->> 8, value ->> 9, CAST(value ->> 10 AS bigint), CAST(value ->> 11 AS bigint),
       CAST(value ->> 12 AS bigint)
  FROM json_array_elements(CAST(:rows AS json));

-- name: continue_ids(newest_user, newest_session, newest_entry, newest_job, newest_token)^
-- The next ids follow these.
SELECT setval('users_id_seq', :newest_user + 1, false),
       setval('sessions_id_seq', :newest_session + 1, false),
       setval('audit_log_id_seq', :newest_entry + 1, false),
       setval('outbox_id_seq', :newest_job + 1, false),
       setval('one_time_tokens_id_seq', :newest_token + 1, false);
