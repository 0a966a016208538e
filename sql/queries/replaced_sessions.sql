-- Sessions whose place another session took a moment ago.

-- name: add(id_hash, replaced_by, now)!
INSERT INTO replaced_sessions (id_hash, replaced_by, replaced_at)
VALUES (:id_hash, :replaced_by, :now);

-- name: has(id_hash, since)$
SELECT EXISTS (SELECT 1 FROM replaced_sessions WHERE id_hash = :id_hash AND replaced_at > :since);

-- name: forget(replaced_by, since)!
DELETE FROM replaced_sessions
 WHERE replaced_by = :replaced_by AND replaced_at <= :since;
