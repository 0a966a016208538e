-- Sessions.

-- name: insert(id_hash, user_id, password_version, credentials_version, now, expires_at, ip, user_agent, methods, second_factor_at)!
-- Adds nothing if the user was deleted or disabled, or the password or another credential changed, since the proof was checked.
INSERT INTO sessions
       (id_hash, user_id, created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent,
        methods, second_factor_at)
SELECT :id_hash, id, :now, :now, :now, :expires_at, :ip, :user_agent, :methods, :second_factor_at
  FROM users
 WHERE id = :user_id
   AND password_version = :password_version
   AND credentials_version = :credentials_version
   AND disabled_at IS NULL;

-- name: authenticate(id_hash, user_id, now)^
-- The session check: one statement, two index searches. Each `+` keeps PostgreSQL from another index than that of id_hash: a plan that
-- it made for a few rows would be slow for many.
SELECT sessions.created_at, sessions.authenticated_at, sessions.last_seen_at, sessions.expires_at,
       sessions.ip, sessions.user_agent, sessions.methods, sessions.second_factor_at,
       users.id, users.username, users.email, users.created_at, users.updated_at, users.email_verified_at
  FROM sessions
  JOIN users ON users.id = sessions.user_id
 WHERE sessions.id_hash = :id_hash
   AND +sessions.user_id = :user_id
   AND +sessions.expires_at > :now
   AND users.disabled_at IS NULL;

-- name: of_user(user_id, now)
SELECT id_hash, created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent, methods,
       second_factor_at
  FROM sessions
 WHERE user_id = :user_id AND expires_at > :now
 ORDER BY id DESC;

-- name: exist(now)$
SELECT EXISTS (SELECT 1 FROM sessions WHERE expires_at > :now);

-- name: renew(id_hash, seen_until, now, expires_at, ip, user_agent)!
-- Changes nothing if another request renewed it first.
UPDATE sessions
   SET last_seen_at = :now, expires_at = :expires_at, ip = :ip, user_agent = :user_agent
 WHERE id_hash = :id_hash AND last_seen_at <= :seen_until AND expires_at > :now;

-- name: rotate(id_hash, new_id_hash, now, expires_at, methods, second_factor_at)!
UPDATE sessions
   SET id_hash = :new_id_hash, authenticated_at = :now, last_seen_at = :now,
       expires_at = :expires_at, methods = :methods, second_factor_at = :second_factor_at
 WHERE id_hash = :id_hash AND expires_at > :now;

-- name: revoke(id_hash, user_id, now)$
-- Returns whether it was live.
DELETE FROM sessions
 WHERE id_hash = :id_hash AND +user_id = :user_id
RETURNING expires_at > :now;

-- name: revoke_all_but(user_id, kept, now)
DELETE FROM sessions
 WHERE user_id = :user_id AND id_hash <> coalesce(:kept, '')
RETURNING id_hash, expires_at > :now;

-- name: revoke_unused(user_id, kept, now)
-- Keeps the `kept` live sessions of a user that were used last. SQLite takes no OFFSET without a LIMIT.
DELETE FROM sessions
 WHERE id IN (SELECT id
                FROM sessions
               WHERE user_id = :user_id AND expires_at > :now
               ORDER BY last_seen_at DESC, id DESC
               LIMIT 1000000000 OFFSET :kept)
RETURNING id_hash;

-- name: prune(now, at_most)!
DELETE FROM sessions
 WHERE id IN (SELECT id
                FROM sessions
               WHERE expires_at <= :now
               ORDER BY expires_at
               LIMIT :at_most);

-- name: end_all()!
DELETE FROM sessions;
