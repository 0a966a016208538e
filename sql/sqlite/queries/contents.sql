-- The size and the schema of a file.

-- name: bytes()$
SELECT page_count * page_size
  FROM pragma_page_count(), pragma_page_size();

-- name: schema()
-- What has a definition: its kind, its name and the definition. Release 0.1 made another ledger, which has got a column since.
SELECT type, name, iif(name = 'migrations', '', sql)
  FROM sqlite_schema
 WHERE sql IS NOT NULL;
