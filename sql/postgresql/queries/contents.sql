-- The size and the schema of a server's database.

-- name: bytes()$
SELECT pg_database_size(current_database());

-- name: schema()
-- Each column, index, constraint, trigger and function of the current schema: its kind, its name and its definition.
SELECT 'column', table_name || '.' || column_name,
       concat_ws(' ', data_type, collation_name, is_nullable, column_default, is_identity)
  FROM information_schema.columns
 WHERE table_schema = current_schema()
 UNION ALL
SELECT 'index', relname, pg_get_indexdef(oid, 0, true)
  FROM pg_class
 WHERE relkind = 'i'
   AND relnamespace = CAST(current_schema() AS regnamespace)
 UNION ALL
SELECT 'constraint', conname, pg_get_constraintdef(oid, true)
  FROM pg_constraint
 WHERE connamespace = CAST(current_schema() AS regnamespace)
 UNION ALL
SELECT 'trigger', tgname, pg_get_triggerdef(pg_trigger.oid, true)
  FROM pg_trigger
  JOIN pg_class ON pg_class.oid = tgrelid
 WHERE NOT tgisinternal
   AND relnamespace = CAST(current_schema() AS regnamespace)
 UNION ALL
SELECT 'function', proname, prosrc
  FROM pg_proc
 WHERE pronamespace = CAST(current_schema() AS regnamespace);

-- name: connections()^
-- Those that there are, of all databases, and the most that there may be.
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       CAST(current_setting('max_connections') AS bigint);
