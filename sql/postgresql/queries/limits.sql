-- Many keys at once, as JSON, whose functions each engine has its own; and how nodes prune at once.

-- name: states(keys, now)
SELECT key, full_at, tries, kept_until
  FROM limits
 WHERE key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:keys AS json))))
   AND (kept_until IS NULL OR kept_until > :now);

-- name: clear(keys)!
DELETE FROM limits
 WHERE key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:keys AS json))));

-- name: prune(now, at_most)!
-- Rows that another node is deleting are passed over, so that no two wait for each other.
DELETE FROM limits
 WHERE key = ANY (ARRAY(SELECT key
                          FROM limits
                         WHERE kept_until <= :now
                         ORDER BY kept_until
                         LIMIT :at_most
                           FOR UPDATE SKIP LOCKED));
