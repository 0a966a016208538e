-- The ledger of the migrations that were applied to a database.

-- name: applied()
SELECT version, name, checksum
  FROM migrations
 ORDER BY version;

-- name: record(version, name, checksum)!
INSERT INTO migrations (version, name, checksum)
VALUES (:version, :name, :checksum);

-- name: has_users()$
SELECT EXISTS (SELECT 1 FROM users);
