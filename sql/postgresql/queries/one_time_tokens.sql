-- How nodes prune at once.

-- name: prune(now, at_most)!
-- Rows that another node is deleting are passed over, so that no two wait for each other.
DELETE FROM one_time_tokens
 WHERE id = ANY (ARRAY(SELECT id
                         FROM one_time_tokens
                        WHERE expires_at <= :now
                        ORDER BY expires_at
                        LIMIT :at_most
                          FOR UPDATE SKIP LOCKED));
