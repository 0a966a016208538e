-- The tables that `authapi db copy` copies, a page at a time. The first two columns are the place of a row, after which the next page
-- begins; the order is the same on each engine.

-- name: users(after, at_most)
SELECT id, username_key, email, email_key, password_hash, password_version, credentials_version, email_verified_at, roles,
       disabled_at, created_at, updated_at, username
  FROM users
 WHERE id > :after
 ORDER BY id
 LIMIT :at_most;

-- name: username_lookalikes(after, after_key, at_most)
SELECT user_id, lookalike
  FROM username_lookalikes
 WHERE (user_id, lookalike) > (:after, :after_key)
 ORDER BY user_id, lookalike
 LIMIT :at_most;

-- name: sessions(after, at_most)
SELECT id, id_hash, user_id, created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent, methods, second_factor_at
  FROM sessions
 WHERE id > :after
 ORDER BY id
 LIMIT :at_most;

-- name: replaced_sessions(after, after_key, at_most)
SELECT replaced_at, id_hash, replaced_by
  FROM replaced_sessions
 WHERE (replaced_at, id_hash) > (:after, :after_key)
 ORDER BY replaced_at, id_hash
 LIMIT :at_most;

-- name: audit_log(after, at_most)
SELECT id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id
  FROM audit_log
 WHERE id > :after
 ORDER BY id
 LIMIT :at_most;

-- name: root_keys(after, after_key, at_most)
SELECT first_used_at, kid
  FROM root_keys
 WHERE (first_used_at, kid) > (:after, :after_key)
 ORDER BY first_used_at, kid
 LIMIT :at_most;

-- name: outbox(after, at_most)
SELECT id, channel, kind, user_id, address, data, language, created_at, expires_at, due_at, claims, failures, error, died_at
  FROM outbox
 WHERE id > :after
 ORDER BY id
 LIMIT :at_most;

-- name: one_time_tokens(after, at_most)
SELECT id, purpose, user_id, version, data, kid, nonce, link_hash, code_hash, binding, tries, created_at, expires_at
  FROM one_time_tokens
 WHERE id > :after
 ORDER BY id
 LIMIT :at_most;

-- name: newest_session()$
SELECT coalesce(max(id), 0)
  FROM sessions;

-- name: newest_token()$
SELECT coalesce(max(id), 0)
  FROM one_time_tokens;

-- name: newest_job()$
SELECT coalesce(max(id), 0)
  FROM outbox;
