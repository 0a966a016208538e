-- The users of another system's SQLite file. The names of its tables are put in.
SELECT users.*
  FROM {0} AS users;
