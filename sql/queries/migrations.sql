-- The ledger of the migrations that were applied to a database.

-- name: applied()
SELECT version, name, checksum, needs
  FROM migrations
 ORDER BY version;

-- name: record(version, name, checksum, needs)!
INSERT INTO migrations (version, name, checksum, needs)
VALUES (:version, :name, :checksum, :needs);

-- name: has_users()$
SELECT EXISTS (SELECT 1 FROM users);
