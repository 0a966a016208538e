-- A user who is locked out has no session any more, and none of the old ones when they are let in again.
DELETE FROM sessions
 WHERE user_id IN (SELECT id FROM users WHERE disabled_at IS NOT NULL);

CREATE TRIGGER users_disabled
AFTER UPDATE OF disabled_at ON users
WHEN NEW.disabled_at IS NOT NULL
BEGIN
    DELETE FROM sessions WHERE user_id = NEW.id;
END;
