-- The ledger as PostgreSQL has it: its catalogue, and a lock for one node at a time.

-- name: lock()!
-- Until the transaction ends. The number is the service's own, so that it meets no other program's lock.
SELECT pg_advisory_xact_lock(7321840953116002);

-- name: has_ledger()$
-- A table without the column is another program's.
SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('migrations') AND attname = 'needs');

-- name: is_empty()$
-- Whether the schema has no tables, views and sequences but those of extensions.
SELECT NOT EXISTS (SELECT 1
                     FROM pg_class
                    WHERE relnamespace = CAST(current_schema() AS regnamespace)
                      AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
                      AND NOT EXISTS (SELECT 1
                                        FROM pg_depend
                                       WHERE classid = CAST('pg_class' AS regclass)
                                         AND objid = pg_class.oid
                                         AND deptype = 'e'));

-- name: create_ledger()!
CREATE TABLE migrations (
    version    bigint PRIMARY KEY,
    name       text   NOT NULL,
    checksum   text   NOT NULL,
    applied_at bigint NOT NULL DEFAULT floor(extract(epoch FROM now())),
    needs      bigint NOT NULL
);
