-- Anybody can cause entries that name no user, with made-up names and without end. They may go at any age.
DROP TRIGGER audit_log_forgets_by_age;

CREATE TRIGGER audit_log_forgets_by_age
BEFORE DELETE ON audit_log
WHEN OLD.user_id IS NOT NULL AND OLD.created_at > (SELECT max(created_at) FROM audit_log) - 7776000
BEGIN
    SELECT RAISE(ABORT, 'audit_log keeps rows for 90 days');
END;
