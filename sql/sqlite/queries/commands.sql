-- How the audit log is followed: SQLite commits its entries in the order of their ids.

-- name: place()^
-- The place of the newest entry, as a text and an id.
SELECT '', coalesce(max(id), 0)
  FROM audit_log;

-- name: entries_after(place, id, since, at_most)
-- Entries after a place, in order, each with its place first.
SELECT '', id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id
  FROM audit_log
 WHERE id > :id AND created_at >= :since AND :place IS NOT NULL
 ORDER BY id
 LIMIT :at_most;
