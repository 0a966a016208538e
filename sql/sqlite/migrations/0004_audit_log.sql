-- What happened to accounts and sessions. It outlives the users, whose ids are never given again.
CREATE TABLE audit_log (
    id         INTEGER PRIMARY KEY CHECK (id > 0),
    created_at INTEGER NOT NULL,
    event      TEXT    NOT NULL,
    user_id    INTEGER,
    session_id TEXT,
    ip         TEXT    NOT NULL,
    user_agent TEXT    NOT NULL,
    request_id TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_log_user_id ON audit_log (user_id);

CREATE INDEX audit_log_created_at ON audit_log (created_at);

CREATE TRIGGER audit_log_keeps_what_it_has
BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'audit_log is append-only');
END;

CREATE TRIGGER audit_log_replaces_nothing
BEFORE INSERT ON audit_log
WHEN EXISTS (SELECT 1 FROM audit_log WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'audit_log is append-only');
END;

-- Rows go by age alone: 90 days before the newest.
CREATE TRIGGER audit_log_forgets_by_age
BEFORE DELETE ON audit_log
WHEN OLD.created_at > (SELECT max(created_at) FROM audit_log) - 7776000
BEGIN
    SELECT RAISE(ABORT, 'audit_log keeps rows for 90 days');
END;
