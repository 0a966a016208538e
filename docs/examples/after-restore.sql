-- Make a restored backup of authapi.db safe to serve. Run this while the service is stopped:
--
--     sqlite3 -bail authapi.db < after-restore.sql
--
-- It is one transaction and changes nothing if it fails. You may run it twice.
BEGIN IMMEDIATE;

-- Sessions that have ended since the backup would be valid again.
DELETE FROM replaced_sessions;
DELETE FROM sessions;

-- The ids of users who registered since the backup would be given to others, with all data that applications keep by these
-- ids. If more than a million users may have registered since, put a larger number here.
UPDATE sqlite_sequence SET seq = seq + 1000000 WHERE name = 'users';
INSERT INTO sqlite_sequence (name, seq)
SELECT 'users', 1000000
 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'users');

-- Device cookies of passwords that were changed since the backup would count again.
UPDATE users
   SET password_version = password_version + 1000000,
       credentials_version = credentials_version + 1000000;

-- Programs that copy the audit log ask for ids above the last one they have.
INSERT INTO audit_log (id, created_at, event, user_id, session_id, ip, user_agent, request_id)
SELECT coalesce(max(id), 0) + 1000000000, unixepoch(), 'restored', NULL, NULL, '', 'after-restore.sql', ''
  FROM audit_log;

COMMIT;
