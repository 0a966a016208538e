-- Makes a backup that took the place of authapi.db safe to serve. Run it while the service is stopped:
--
--     sqlite3 -bail authapi.db < after-restore.sql
--
-- It is one transaction, and changes nothing where it fails. To run it twice does no harm.
BEGIN IMMEDIATE;

-- Sessions that have ended since the backup would be good again.
DELETE FROM sessions;

-- The ids of users who came since the backup would be given again, and with them all that applications keep by these ids. Where
-- more than a million users may have come since, put a larger number here.
UPDATE sqlite_sequence SET seq = seq + 1000000 WHERE name = 'users';
INSERT INTO sqlite_sequence (name, seq)
SELECT 'users', 1000000
 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'users');

-- Device cookies of passwords that were changed since the backup would count again, now or after the next changes.
UPDATE users SET password_version = password_version + 1000000;

-- Whoever copies the audit log asks for ids above the last one that they have.
INSERT INTO audit_log (id, created_at, event, user_id, session_id, ip, user_agent, request_id)
SELECT coalesce(max(id), 0) + 1000000000, unixepoch(), 'restored', NULL, NULL, '', 'after-restore.sql', ''
  FROM audit_log;

COMMIT;
