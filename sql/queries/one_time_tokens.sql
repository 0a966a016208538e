-- Links and codes that are sent by mail. A token counts until it expires, while its user is neither disabled nor has other credentials than
-- when it was sent.

-- name: insert(purpose, user_id, data, kid, nonce, binding, now, expires_at)$
INSERT INTO one_time_tokens (purpose, user_id, data, kid, nonce, binding, created_at, expires_at)
VALUES (:purpose, :user_id, :data, :kid, :nonce, :binding, :now, :expires_at)
RETURNING id;

-- name: waiting(id, purpose, now)^
-- A token that is to be sent, or sent again.
SELECT kid, nonce
  FROM one_time_tokens
 WHERE id = :id AND purpose = :purpose AND expires_at > :now;

-- name: send(id, user_id, version, link_hash, code_hash, now, expires_at)!
-- The first time sets whose the token is, its version and its end. Another time changes nothing.
UPDATE one_time_tokens
   SET expires_at = CASE WHEN link_hash IS NULL THEN :expires_at ELSE expires_at END,
       version = CASE WHEN link_hash IS NULL THEN :version ELSE version END,
       user_id = :user_id, link_hash = :link_hash, code_hash = :code_hash
 WHERE id = :id AND expires_at > :now AND (user_id IS NULL OR user_id = :user_id);

-- name: of_user(user_id)
-- All that is kept of a user's tokens but what proves them.
SELECT purpose, data, created_at, expires_at
  FROM one_time_tokens
 WHERE user_id = :user_id
 ORDER BY id;

-- name: replace_older(id, user_id, purpose)!
DELETE FROM one_time_tokens
 WHERE user_id = :user_id AND purpose = :purpose AND id < :id;

-- name: has_newer(id, user_id, purpose)$
SELECT EXISTS (SELECT 1
                 FROM one_time_tokens
                WHERE user_id = :user_id AND purpose = :purpose AND id > :id AND link_hash IS NOT NULL);

-- name: mark(purpose, user_id, now, expires_at)!
-- A row that is no token: the user's tokens with a lower id were begun before a change of the credentials.
INSERT INTO one_time_tokens (purpose, user_id, data, kid, nonce, created_at, expires_at)
VALUES (:purpose, :user_id, '{}', '', '', :now, :expires_at);

-- name: is_outdated(id, user_id)$
SELECT EXISTS (SELECT 1
                 FROM one_time_tokens
                WHERE user_id = :user_id AND purpose = 'outdated' AND id > :id);

-- name: by_link(link_hash, purpose, now)^
SELECT id, user_id, data, binding
  FROM one_time_tokens
 WHERE link_hash = :link_hash AND purpose = :purpose AND expires_at > :now
   AND (user_id IS NULL
        OR EXISTS (SELECT 1
                     FROM users
                    WHERE users.id = one_time_tokens.user_id AND disabled_at IS NULL
                      AND credentials_version = coalesce(one_time_tokens.version, credentials_version)));

-- name: consume(id, purpose, now)$
DELETE FROM one_time_tokens
 WHERE id = :id AND purpose = :purpose AND expires_at > :now AND link_hash IS NOT NULL
   AND (user_id IS NULL
        OR EXISTS (SELECT 1
                     FROM users
                    WHERE users.id = one_time_tokens.user_id AND disabled_at IS NULL
                      AND credentials_version = coalesce(one_time_tokens.version, credentials_version)))
RETURNING id;

-- name: newest(user_id, purpose, now)$
SELECT id
  FROM one_time_tokens
 WHERE user_id = :user_id AND purpose = :purpose AND expires_at > :now AND link_hash IS NOT NULL
 ORDER BY id DESC
 LIMIT 1;

-- name: take_try(id, purpose, binding, user_id, tries, now)^
-- A token is bound to a browser, or to a user.
UPDATE one_time_tokens
   SET tries = tries + 1
 WHERE id = :id AND purpose = :purpose AND expires_at > :now AND tries < :tries
   AND (binding = :binding OR (:binding = '' AND binding IS NULL AND user_id = :user_id))
RETURNING kid, code_hash, user_id, data;

-- name: end_of_user(user_id)!
DELETE FROM one_time_tokens
 WHERE user_id = :user_id AND purpose <> 'outdated';

-- name: end_purpose(user_id, purpose)!
DELETE FROM one_time_tokens
 WHERE user_id = :user_id AND purpose = :purpose;

-- name: end_newer(user_id, id)!
DELETE FROM one_time_tokens
 WHERE user_id = :user_id AND id > :id AND purpose <> 'outdated';

-- name: end_all()!
DELETE FROM one_time_tokens;

-- name: prune(now, at_most)!
DELETE FROM one_time_tokens
 WHERE id IN (SELECT id
                FROM one_time_tokens
               WHERE expires_at <= :now
               ORDER BY expires_at
               LIMIT :at_most);
