-- How an entry gets its id: SQLite gives the next one in place of NULL, where another engine has a sequence.

-- name: insert(id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id)!
-- Without an id, the entry gets the next one.
INSERT INTO audit_log (id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id)
VALUES (:id, :created_at, :event, :detail, :user_id, :session_id, :ip, :user_agent, :request_id);
