-- What operator commands read and change. Lists are read a page at a time.

-- name: users(after, at_most, pattern, disabled)
-- In the order of ids. `pattern` is for LIKE, and NULL for all users; `disabled` is 1 or 0, and NULL for both.
SELECT id, username, email, created_at, updated_at, email_verified_at, disabled_at
  FROM users
 WHERE id > :after
   AND (CAST(:pattern AS TEXT) IS NULL OR username_key LIKE :pattern ESCAPE '\' OR email_key LIKE :pattern ESCAPE '\')
   AND (CAST(:disabled AS BIGINT) IS NULL OR CASE WHEN disabled_at IS NULL THEN 0 ELSE 1 END = CAST(:disabled AS BIGINT))
 ORDER BY id
 LIMIT :at_most;

-- name: set_disabled(id, disabled_at)!
UPDATE users
   SET disabled_at = :disabled_at
 WHERE id = :id;

-- name: set_password(id, new_hash)!
UPDATE users
   SET password_hash = :new_hash, password_version = password_version + 1
 WHERE id = :id;

-- name: sessions(after, at_most, now)
-- In the order in which they were opened. The first column is the place in that order.
SELECT sessions.id, id_hash, sessions.created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent, methods,
       user_id, users.username
  FROM sessions
  JOIN users ON users.id = sessions.user_id
 WHERE sessions.id > :after AND expires_at > :now
 ORDER BY sessions.id
 LIMIT :at_most;

-- name: sessions_by_id(first, last)
-- Sessions with an id in a range: those whose id begins alike.
SELECT id_hash, user_id
  FROM sessions
 WHERE id_hash BETWEEN :first AND :last
 LIMIT 2;

-- name: user_ids(after, at_most)
SELECT id
  FROM users
 WHERE id > :after
 ORDER BY id
 LIMIT :at_most;

-- name: entries(before, oldest, since, at_most)
-- The audit log, newest first.
SELECT id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id
  FROM audit_log
 WHERE id < :before AND id >= :oldest AND created_at >= :since
 ORDER BY id DESC
 LIMIT :at_most;

-- name: has_event(event)$
-- For a name that no feature declares: it reads the whole log.
SELECT EXISTS (SELECT 1 FROM audit_log WHERE event = :event);

-- name: entries_of_user(user_id, before, oldest, since, at_most)
SELECT id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id
  FROM audit_log
 WHERE user_id = :user_id AND id < :before AND id >= :oldest AND created_at >= :since
 ORDER BY id DESC
 LIMIT :at_most;

-- name: oldest_entry(since)$
SELECT min(id)
  FROM audit_log
 WHERE created_at >= :since;
