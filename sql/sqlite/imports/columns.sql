-- The columns of each table that is a file's own, and no program's.
SELECT tables.name, columns.name
  FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
 WHERE tables.type = 'table' AND tables.rootpage > 0;
