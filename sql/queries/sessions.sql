-- Sessions.

-- name: insert(id_hash, user_id, created_at, expires_at)!
-- Adds nothing for a user who was deleted or disabled since the password was checked.
INSERT INTO sessions (id_hash, user_id, created_at, expires_at)
SELECT :id_hash, id, :created_at, :expires_at
  FROM users
 WHERE id = :user_id AND disabled_at IS NULL;

-- name: authenticate(id_hash, user_id, now)^
-- The session check: one statement, two index searches.
SELECT sessions.created_at, sessions.expires_at,
       users.id, users.username, users.email, users.created_at, users.updated_at
  FROM sessions
  JOIN users ON users.id = sessions.user_id
 WHERE sessions.id_hash = :id_hash
   AND sessions.user_id = :user_id
   AND sessions.expires_at > :now
   AND users.disabled_at IS NULL;

-- name: revoke(id_hash)!
DELETE FROM sessions
 WHERE id_hash = :id_hash;

-- name: prune(now, at_most)!
DELETE FROM sessions
 WHERE id_hash IN (SELECT id_hash
                     FROM sessions
                    WHERE expires_at <= :now
                    ORDER BY expires_at
                    LIMIT :at_most);
