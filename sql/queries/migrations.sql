-- The ledger of the migrations that were applied to a database.

-- name: applied()
SELECT version, name, checksum, needs
  FROM migrations
 ORDER BY version;

-- name: newest()$
-- Also of a ledger that release 0.1 made.
SELECT coalesce(max(version), 0)
  FROM migrations;

-- name: record(version, name, checksum, needs)!
INSERT INTO migrations (version, name, checksum, needs)
VALUES (:version, :name, :checksum, :needs);

-- name: has_users()$
SELECT EXISTS (SELECT 1 FROM users);
