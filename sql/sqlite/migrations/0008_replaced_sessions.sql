-- The session whose place a session took, by a login or with another secret. An answer to a request that was still on its way
-- with the older token must not delete the newer cookie.
ALTER TABLE sessions ADD COLUMN replaced TEXT;

CREATE INDEX sessions_replaced ON sessions (replaced) WHERE replaced IS NOT NULL;
