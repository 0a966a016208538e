-- How nodes prune at once, and how a loop checks many sessions.

-- name: prune(now, at_most)!
-- Rows that another node is deleting are passed over, so that no two wait for each other.
DELETE FROM sessions
 WHERE id = ANY (ARRAY(SELECT id
                         FROM sessions
                        WHERE expires_at <= :now
                        ORDER BY expires_at
                        LIMIT :at_most
                          FOR UPDATE SKIP LOCKED));

-- name: authenticate_all(id_hashes, user_ids)
-- Many session checks at once, for a server's loop, which does not wait for an answer; `place` is where each key stands in the arrays.
-- The columns after it are those of `authenticate`. Expired sessions are returned too: the time of the check is known when it goes on.
SELECT asked.place,
       sessions.created_at, sessions.authenticated_at, sessions.last_seen_at, sessions.expires_at,
       sessions.ip, sessions.user_agent, sessions.methods, sessions.second_factor_at,
       users.id, users.username, users.email, users.created_at, users.updated_at, users.email_verified_at
  FROM unnest(CAST(:id_hashes AS TEXT[]), CAST(:user_ids AS BIGINT[])) WITH ORDINALITY AS asked (id_hash, user_id, place)
  JOIN sessions ON sessions.id_hash = asked.id_hash
  JOIN users ON users.id = sessions.user_id
 WHERE +sessions.user_id = asked.user_id
   AND users.disabled_at IS NULL;
