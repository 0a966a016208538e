-- How nodes claim and prune at once.

-- name: claim(channel, now, until, latest, at_most)
-- Rows that another node is claiming are passed over, so that no two wait for each other.
UPDATE outbox
   SET claims = claims + 1, due_at = :until
 WHERE id = ANY (ARRAY(SELECT id
                         FROM outbox
                        WHERE channel = :channel AND due_at IS NOT NULL AND (due_at <= :now OR due_at > :latest)
                        ORDER BY due_at, id
                        LIMIT :at_most
                          FOR UPDATE SKIP LOCKED))
RETURNING id, kind, user_id, address, data, language, created_at, expires_at, claims, failures, error;

-- name: prune(until, at_most)!
-- Rows that another node is deleting are passed over, so that no two wait for each other.
DELETE FROM outbox
 WHERE id = ANY (ARRAY(SELECT id
                         FROM outbox
                        WHERE died_at <= :until
                        ORDER BY died_at
                        LIMIT :at_most
                          FOR UPDATE SKIP LOCKED));

-- name: prune_expired(channel, until, at_most)!
-- Rows that another node is deleting are passed over, so that no two wait for each other.
DELETE FROM outbox
 WHERE id = ANY (ARRAY(SELECT id
                         FROM outbox
                        WHERE channel = :channel AND due_at <= :until AND expires_at <= :until
                        ORDER BY due_at
                        LIMIT :at_most
                          FOR UPDATE SKIP LOCKED));
