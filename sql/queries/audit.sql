-- The audit log.

-- name: newest_id()$
SELECT coalesce(max(id), 0)
  FROM audit_log;

-- name: newest_time()$
SELECT coalesce(max(created_at), 0)
  FROM audit_log;

-- name: newest_time_of(event)$
-- Of events that name no user.
SELECT coalesce(max(created_at), 0)
  FROM audit_log
 WHERE user_id IS NULL AND event = :event;

-- name: of_user(user_id, before, at_most)
SELECT id, created_at, event, session_id, ip, user_agent, request_id, detail
  FROM audit_log
 WHERE user_id = :user_id AND id < :before
 ORDER BY id DESC
 LIMIT :at_most;

-- name: has(user_id, event, request_id)$
SELECT EXISTS (SELECT 1
                 FROM audit_log
                WHERE user_id = :user_id AND event = :event AND request_id = :request_id);

-- name: prune_nobodys(kept, at_most)!
-- Deletes entries that name no user, all but the newest `kept`.
DELETE FROM audit_log
 WHERE id IN (SELECT id
                FROM audit_log
               WHERE user_id IS NULL
               ORDER BY id DESC
               LIMIT :at_most OFFSET :kept);

-- name: prune(until, at_most)!
DELETE FROM audit_log
 WHERE id IN (SELECT id
                FROM audit_log
               WHERE created_at <= :until
               ORDER BY created_at
               LIMIT :at_most);
