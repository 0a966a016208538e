-- How an entry gets its id, which is the sequence's; and how nodes prune at once.

-- name: insert(id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id)!
-- Without an id, the entry gets the next one. With one, the next ones follow it.
INSERT INTO audit_log (id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id)
OVERRIDING SYSTEM VALUE
VALUES (CASE WHEN CAST(:id AS BIGINT) IS NULL THEN nextval('audit_log_id_seq')
             ELSE setval('audit_log_id_seq', CAST(:id AS BIGINT)) END,
        :created_at, :event, :detail, :user_id, :session_id, :ip, :user_agent, :request_id);

-- name: prune_nobodys(kept, at_most)!
-- Rows that another node is deleting are passed over, so that no two wait for each other.
DELETE FROM audit_log
 WHERE id = ANY (ARRAY(SELECT id
                         FROM audit_log
                        WHERE user_id IS NULL
                        ORDER BY id DESC
                        LIMIT :at_most OFFSET :kept
                          FOR UPDATE SKIP LOCKED));

-- name: prune(until, at_most)!
-- Rows that another node is deleting are passed over, so that no two wait for each other.
DELETE FROM audit_log
 WHERE id = ANY (ARRAY(SELECT id
                         FROM audit_log
                        WHERE created_at <= :until
                        ORDER BY created_at
                        LIMIT :at_most
                          FOR UPDATE SKIP LOCKED));
