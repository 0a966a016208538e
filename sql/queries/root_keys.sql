-- The root keys that the database was used with.

-- name: has_any()$
SELECT EXISTS (SELECT 1 FROM root_keys);

-- name: has(kid)$
SELECT EXISTS (SELECT 1 FROM root_keys WHERE kid = :kid);

-- name: add(kid, now)!
INSERT INTO root_keys (kid, first_used_at)
VALUES (:kid, :now)
    ON CONFLICT (kid) DO NOTHING;
