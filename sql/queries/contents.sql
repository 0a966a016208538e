-- What a database holds.

-- name: users()$
SELECT count(*)
  FROM users;

-- name: sessions()$
SELECT count(*)
  FROM sessions;

-- name: live_sessions(now)$
SELECT count(*)
  FROM sessions
 WHERE expires_at > :now;

-- name: newest_backup()$
-- When the last backup was made that the audit log knows.
SELECT max(created_at)
  FROM audit_log
 WHERE event = 'backed_up';
