-- How nodes prune at once.

-- name: prune(now, at_most)!
-- Rows that another node is deleting are passed over, so that no two wait for each other.
DELETE FROM limits
 WHERE key = ANY (ARRAY(SELECT key
                          FROM limits
                         WHERE kept_until <= :now
                         ORDER BY kept_until
                         LIMIT :at_most
                           FOR UPDATE SKIP LOCKED));
