-- How the audit log is followed: PostgreSQL may commit an entry after another one with a higher id, so the place is that of its transaction.

-- name: place()^
-- Of the oldest transaction that is not committed yet, as a text and an id.
SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT), CAST(0 AS BIGINT);

-- name: entries_after(place, id, since, at_most)
-- Entries after a place, in order, each with its place first; none that an uncommitted one may still come before.
SELECT CAST(xact AS TEXT), id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id
  FROM audit_log
 WHERE (xact, id) > (CAST(CAST(:place AS TEXT) AS xid8), CAST(:id AS BIGINT))
   AND created_at >= :since
   AND xact < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY audit_log.xact, id
 LIMIT :at_most;
